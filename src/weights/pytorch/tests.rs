//! Pickles and archives made by hand: what is read of them, and what is refused.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::pickle::{Object, Pickle, Value};
use super::state_dict::StateDict;
use super::*;

#[path = "../../../tests/pt/mod.rs"]
mod pt;

use pt::{Record, dict, global, int, pickle, records, storage, tensor, text, tuple, zip};

/// A weight of one element in the storage `0`.
fn weight() -> Vec<u8> {
    tensor(&storage("Float", "0", 1), 0, &[1], &[1])
}

/// Why a pickle is refused, as a machine or as a state dict.
fn refused(bytes: &[u8]) -> String {
    let read = Pickle::read(bytes).and_then(|pickle| StateDict::find(&pickle).map(|found| format!("{found:?}")));
    let problem = read.expect_err("it is read");
    assert!(problem.lines().count() == 1 && problem.len() < 400, "{problem:?}");
    problem
}

#[test]
fn every_opcode_of_torch_save_is_read() {
    // The same dictionary of one tensor, in protocol 2 and in protocol 4.
    let old = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wr\x02\x00\x00\x00ctorch._utils\n\
        _rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04ctorch\nHalfStorage\nq\x05X\x01\x00\x00\x007q\x06X\
        \x03\x00\x00\x00cpuq\x07M\x2c\x01tq\x08QK\x05J\x02\x00\x00\x00\x8a\x01\x03\x86q\x09K\x03K\x01\x86q\x0a\x89j\
        \x00\x00\x00\x00)Rtq\x0bRs}X\x09\x00\x00\x00_metadatah\x00)Rsb.";
    let new = b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)\
        R\x94(\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94((\x8c\x07storage\x94\x8c\
        \x05torch\x94\x8c\x0bHalfStorage\x94\x93\x94\x8c\x017\x94\x8c\x03cpu\x94M\x2c\x01t\x94QK\x05K\x02K\x03\x86K\
        \x03K\x01\x86\x88h\x02)R}t\x94Ru.";
    for bytes in [&old[..], new] {
        let pickle = Pickle::read(bytes).unwrap();
        let found = StateDict::find(&pickle).unwrap();
        let view = View {
            name: "w",
            kind: safetensors::Dtype::F16,
            key: "7",
            len: 300,
            offset: 5,
            dims: vec![2, 3],
            strides: vec![3, 1],
        };
        assert_eq!(found, StateDict { wrapper: None, tensors: vec![view] });
    }
    // What may lie beside a state dict: lists, tuples, None, bools, floats, long integers.
    let beside =
        b"\x80\x02](K\x01N\x88\x89G\x3f\xf0\x00\x00\x00\x00\x00\x00\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00e)a.";
    let pickle = Pickle::read(beside).unwrap();
    let Some(Object::List(items)) = pickle.object(pickle.root) else { panic!("no list") };
    assert_eq!(items[..6], [Value::Int(1), Value::Other, Value::Other, Value::Other, Value::Other, Value::Other]);
    assert_eq!(pickle.object(items[6]), Some(&Object::Tuple(Vec::new())));
    let integers: &[(&[u8], i64)] = &[
        (b"\x8a\x00", 0),
        (b"\x8a\x01\xff", -1),
        (b"\x8a\x02\xff\x00", 255),
        (b"\x8a\x08\0\0\0\0\0\0\0\x80", i64::MIN),
        (b"J\xfe\xff\xff\xff", -2),
        (b"K\xff", 255),
        (b"M\xff\xff", 65535),
    ];
    for (bytes, number) in integers {
        assert_eq!(Pickle::read(&pt::pickle(bytes)).unwrap().root, Value::Int(*number), "{bytes:?}");
    }
}

#[test]
fn calls_are_refused_by_name() {
    let call = |global: &[u8]| [global, &tuple(&[text("rm -rf /")]), b"R"].concat();
    let stack_global = |module: &str, name: &str| [&text(module)[..], &text(name), b"\x93"].concat();
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch", "load"),
        ("torch", "Storage"),
        ("torch", "UntypedStorage"),
        ("collections", "OrderedDict.fromkeys"),
        ("numpy.core.multiarray", "scalar"),
    ] {
        for global in [global(module, name), stack_global(module, name)] {
            // As the whole, as an entry beside tensors, and without a call.
            for value in [call(&global), dict(&[(text("w"), weight()), (text("x"), call(&global))]), global] {
                let problem = refused(&pickle(&value));
                assert!(
                    problem.starts_with(&format!("it would run {module}.{name}; only tensors are read")),
                    "{problem}"
                );
                assert!(problem.contains("torch.save(net.state_dict(), PATH)"), "{problem}");
            }
        }
    }
    let inst = refused(b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n.");
    assert!(inst.starts_with("it would run os.system;"), "{inst}");
    // Globals that are allowed, called with something else, or as the argument of one another.
    for value in [
        [&global("collections", "OrderedDict")[..], &tuple(&[text("x")]), b"R"].concat(),
        [&global("torch", "FloatStorage")[..], b")R"].concat(),
        [&global("torch._utils", "_rebuild_parameter")[..], &tuple(&[text("x"), text("x"), text("x")]), b"R"].concat(),
        [&global("torch._utils", "_rebuild_tensor_v2")[..], b")R"].concat(),
        [&text("x")[..], b")R"].concat(),
        // NEWOBJ, OBJ, NEWOBJ_EX, EXT1, PERSID, BUILD of what is no dictionary.
        [&global("collections", "OrderedDict")[..], b")\x81"].concat(),
        [b"(", &global("collections", "OrderedDict")[..], b"o"].concat(),
        [&global("collections", "OrderedDict")[..], b")}\x92"].concat(),
        b"\x82\x01".to_vec(),
        b"Pstorage\n".to_vec(),
        b"]}b".to_vec(),
        b"}Nb".to_vec(),
    ] {
        refused(&pickle(&value));
    }
    // A name from the file cannot break the line.
    let problem = refused(&pickle(&[&text("a\nb\x1b[31m")[..], &text(&"x".repeat(10_000)), b"\x93"].concat()));
    assert!(problem.starts_with("it would run a\\nb\\u{1b}[31m.xxx"), "{problem}");
}

#[test]
fn bits_that_change_a_tensors_numbers_are_refused() {
    let with = |bits: &[u8]| {
        let mut whole = weight();
        whole.truncate(whole.len() - 2);
        pickle(&dict(&[(text("w"), [&whole[..], bits, b"tR"].concat())]))
    };
    for plain in [&b""[..], b"N", b"}"] {
        let bytes = with(plain);
        assert!(StateDict::find(&Pickle::read(&bytes).unwrap()).is_ok(), "{plain:?}");
    }
    assert!(refused(&with(&dict(&[(text("neg"), b"\x88".to_vec())]))).contains("a tensor has other arguments"));
    refused(&with(b"NN"));
}

#[test]
fn malformed_pickles_are_refused() {
    for bytes in [
        &b""[..],
        b".",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x01N.",
        b"\x80\x06N.",
        b"\x80\x02NN.",
        b"\x80\x02N.N",
        b"\x80\x02t.",
        b"\x80\x02(.",
        b"\x80\x02N(.",
        b"\x80\x02N(\x85.",
        b"\x80\x02\x87.",
        b"\x80\x02NN\x87.",
        b"\x80\x02a.",
        b"\x80\x02Na.",
        b"\x80\x02}Na.",
        b"\x80\x02](}Ns.",
        b"\x80\x02]NNs.",
        b"\x80\x02}(NNNu.",
        b"\x80\x02}u.",
        b"\x80\x02e.",
        b"\x80\x02h\x00.",
        b"\x80\x02Nq\x00h\x01.",
        b"\x80\x02q\x00.",
        b"\x80\x02\x94.",
        b"\x80\x02Q.",
        b"\x80\x02NQ.",
        b"\x80\x02)Q.",
        b"\x80\x02R.",
        b"\x80\x02NR.",
        b"\x80\x02b.",
        b"\x80\x02\x93.",
        b"\x80\x02NN\x93.",
        b"\x80\x02X\xff\xff\xff\xffa.",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        b"\x80\x02\x8c\x05a.",
        b"\x80\x02\x8a\xff.",
        b"\x80\x02G.",
        b"\x80\x02cos",
        b"\x80\x02cos\n\xff\n.",
        b"\x80\x04\x95\x00.",
    ] {
        refused(bytes);
    }
    let whole = pickle(&dict(&[(text("w"), weight())]));
    assert!(Pickle::read(&whole).is_ok());
    for len in 0..whole.len() {
        assert!(Pickle::read(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn large_pickles_take_bounded_memory_and_no_stack() {
    // A memo place far away is a place as any.
    let far = pickle(&[&dict(&[(text("w"), weight())])[..], b"r\xff\xff\xff\xff0"].concat());
    assert!(refused(&far).contains("0x30"));
    let far = pickle(&[&dict(&[(text("w"), weight())])[..], b"r\xff\xff\xff\xff"].concat());
    assert!(Pickle::read(&far).is_ok());
    // A tuple in a tuple in a tuple: neither reading nor dropping it is recursive.
    let deep = pickle(&[b")".as_slice(), &[0x85; 900_000]].concat());
    assert!(Pickle::read(&deep).is_ok());
    assert!(refused(&deep).contains("no dictionary of tensors"));
    for endless in [b"N", b"(", b")", b"}"] {
        let problem = refused(&pickle(&endless.repeat(1 << 20)));
        assert!(problem.contains("more than 1048576 opcodes"), "{problem}");
    }
    // A list that holds itself.
    refused(b"\x80\x02]q\x00h\x00a.");
    refused(b"\x80\x02}q\x00X\x01\x00\x00\x00wh\x00s.");
}

/// The view of a tensor with these numbers in a storage of `len` elements, or why it is refused.
fn view(len: usize, offset: i64, dims: &[usize], strides: &[usize]) -> std::result::Result<Vec<f32>, String> {
    let bytes = pickle(&dict(&[(text("w"), tensor(&storage("Float", "0", len), offset, dims, strides))]));
    let pickle = Pickle::read(&bytes).unwrap();
    let found = StateDict::find(&pickle)?;
    let numbers: Vec<f32> = (0..len.min(1000)).map(|number| number as f32).collect();
    let mut values = Vec::new();
    found.tensors[0].gathered(&numbers, &mut values);
    let (whole, in_order) = (found.tensors[0].is_whole(), values == numbers);
    assert!(!whole || in_order, "{dims:?} {strides:?}");
    Ok(values)
}

#[test]
fn views_are_gathered_within_their_storage() {
    assert_eq!(view(6, 0, &[2, 3], &[3, 1]).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(view(6, 0, &[3, 2], &[1, 3]).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(view(9, 2, &[2, 2], &[4, 2]).unwrap(), [2.0, 4.0, 6.0, 8.0]);
    assert_eq!(view(3, 1, &[2, 2], &[0, 1]).unwrap(), [1.0, 2.0, 1.0, 2.0]);
    assert_eq!(view(3, 2, &[], &[]).unwrap(), [2.0]);
    assert_eq!(view(3, 3, &[0, usize::MAX >> 1], &[7, 7]).unwrap(), [0.0; 0]);
    // The stride of a single index moves nothing.
    assert_eq!(view(2, 0, &[1, 2], &[usize::MAX >> 1, 1]).unwrap(), [0.0, 1.0]);
    assert_eq!(view(24, 0, &[2, 3, 4], &[12, 1, 3]).unwrap()[..5], [0.0, 3.0, 6.0, 9.0, 1.0]);
    let most = i64::MAX as usize;
    let beyond: &[(usize, i64, &[usize], &[usize])] = &[
        (6, 1, &[2, 3], &[3, 1]),
        (6, -1, &[2], &[1]),
        (6, 6, &[1], &[1]),
        (6, 7, &[0], &[1]),
        (6, 0, &[7], &[1]),
        (6, 0, &[2], &[6]),
        (6, 0, &[2, 3], &[3]),
        (6, 0, &[most, most, most], &[1, 1, 1]),
        (6, 0, &[3], &[most]),
        (6, i64::MAX, &[2], &[most]),
        (6, 0, &[usize::MAX], &[1]),
        (6, 0, &[2], &[usize::MAX]),
        (6, 0, &[1; 65], &[1; 65]),
    ];
    for &(len, offset, dims, strides) in beyond {
        let problem = view(len, offset, dims, strides).unwrap_err();
        assert!(problem.starts_with("tensor w "), "{problem}");
    }
}

#[test]
fn state_dicts_are_found_by_name_one_level_down() {
    let state = dict(&[(text("w"), weight())]);
    let found = |value: &[u8]| {
        let bytes = pickle(value);
        let pickle = Pickle::read(&bytes).unwrap();
        StateDict::find(&pickle).map(|found| (found.wrapper, found.tensors.len()))
    };
    assert_eq!(found(&state), Ok((None, 1)));
    for name in ["state_dict", "model", "model_state_dict", "net"] {
        let beside =
            [(text("epoch"), int(3)), (text(name), state.clone()), (text("rates"), b"](G\0\0\0\0\0\0\0\0e".to_vec())];
        assert_eq!(found(&dict(&beside)), Ok((Some(name), 1)));
    }
    // A name that is a text, and a tensor of this name.
    assert_eq!(found(&dict(&[(text("model"), text("nin")), (text("net"), state.clone())])), Ok((Some("net"), 1)));
    assert_eq!(found(&dict(&[(text("model"), weight())])), Ok((None, 1)));
    for (value, says) in [
        (dict(&[(text("weights"), state.clone())]), "its entry weights is no tensor"),
        (dict(&[(text("w"), weight()), (text("epoch"), int(3))]), "its entry epoch is no tensor"),
        (dict(&[(int(1), weight())]), "no text"),
        (dict(&[]), "empty"),
        (dict(&[(text("model"), dict(&[]))]), "empty"),
        (dict(&[(text("model"), dict(&[(text("net"), state.clone())]))]), "its entry net is no tensor"),
        (dict(&[(text("net"), state.clone()), (text("model"), state.clone())]), "under model and under net"),
        (weight(), "no dictionary of tensors"),
        (tuple(std::slice::from_ref(&state)), "no dictionary of tensors"),
        (int(3), "no dictionary of tensors"),
        (dict(&[(text("w"), tensor(&storage("Long", "0", 1), 0, &[1], &[1]))]), "tensor w is I64; weights are F32"),
        (dict(&[(text("w"), tensor(&storage("Bool", "0", 1), 0, &[1], &[1]))]), "tensor w is BOOL"),
    ] {
        let problem = found(&value).unwrap_err();
        assert!(problem.contains(says), "{problem}");
    }
}

/// A folder with a file of these bytes.
fn written(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pt");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn load(records: &[Record]) -> Result<Tensors> {
    let (_folder, path) = written(&zip(records));
    Tensors::load(&path)
}

/// The records of a file with the tensor `w` of these elements.
fn small(values: &[f32]) -> Vec<Record> {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let w = tensor(&storage("Float", "0", values.len()), 0, &[values.len()], &[1]);
    records(pickle(&dict(&[(text("w"), w)])), &[("0", bytes)])
}

#[test]
fn archives_that_torch_save_does_not_write_are_refused() {
    let good = small(&[1.0, 2.0]);
    let tensors = load(&good).unwrap();
    assert_eq!(tensors.tensors["w"].values, [1.0, 2.0]);
    assert_eq!((tensors.origin().format, tensors.origin().wrapper), (Format::PyTorch, None));
    let changed = |name: &str, change: &dyn Fn(&mut Record)| {
        let mut records = good.clone();
        change(records.iter_mut().find(|record| record.name == name).unwrap());
        records
    };
    let with = |record: Record| [&good[..], &[record]].concat();
    let without = |name: &str| good.iter().filter(|record| record.name != name).cloned().collect::<Vec<_>>();
    let renamed = |to: &'static str| changed("a/version", &|record| record.name = to.into());
    for (records, says) in [
        (changed("a/data/0", &|record| record.method = 8), "data/0 is compressed"),
        (changed("a/data.pkl", &|record| record.method = 8), "data.pkl is compressed"),
        // A bomb: what it says it unpacks to.
        (changed("a/data/0", &|record| (record.method, record.claims) = (8, u32::MAX - 1)), "data/0 is compressed"),
        (changed("a/data/0", &|record| record.claims = 1 << 30), "data/0 is compressed"),
        (changed("a/data/0", &|record| record.flags = 1), "data/0 is encrypted"),
        (renamed("../version"), "../version has a name that leads elsewhere"),
        (renamed("/etc/version"), "/etc/version has a name that leads elsewhere"),
        (renamed("a/../../version"), "leads elsewhere"),
        (renamed("a\\..\\version"), "leads elsewhere"),
        (with(good[2].clone()), "it has two records a/data/0"),
        (changed("a/data/0", &|record| record.bytes[0] ^= 1), "data/0 does not match its checksum"),
        (changed("a/data.pkl", &|record| record.crc ^= 1), "data.pkl does not match its checksum"),
        (changed("a/byteorder", &|record| *record = Record::new("a/byteorder", *b"big")), "big-endian"),
        (without("a/data.pkl"), "it has no data.pkl"),
        (without("a/data/0"), "data/0 is missing"),
        (changed("a/data/0", &|record| *record = Record::new("a/data/0", [0; 4])), "4 bytes, not 2 elements of 4"),
    ] {
        let error = load(&records).unwrap_err().to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{says}: {error}");
    }
    // Files of PyTorch before 2.1 do not tell the order of their bytes.
    assert!(load(&without("a/byteorder")).is_ok());
    assert!(load(&with(Record::new("a/.data/serialization_id", *b"12"))).is_ok());
    // Without checksums nothing is checked; with some, all are.
    let unchecked = good.iter().map(|record| Record { crc: 0, ..record.clone() }).collect::<Vec<_>>();
    assert!(load(&unchecked).is_ok());
    assert!(load(&changed("a/data/0", &|record| record.crc = 0)).is_err());
}

#[test]
fn records_that_share_their_bytes_are_refused() {
    // Two directory entries for one local record: together larger than the file.
    let mut records = small(&vec![1.0; 1000]);
    records.push(Record::new("a/data/1", vec![0; 4000]));
    let mut bytes = zip(&records);
    let name = b"a/data/1";
    let second = bytes.windows(name.len()).rposition(|window| window == name).unwrap();
    let first = bytes.windows(name.len()).rposition(|window| window == b"a/data/0").unwrap();
    let offset = |entry: usize| entry - 4..entry;
    let place = bytes[offset(first)].to_vec();
    bytes[offset(second)].copy_from_slice(&place);
    // The local record is cut out, so that the file has its bytes once.
    let local = bytes.windows(name.len()).position(|window| window == name).unwrap() - 30;
    let cut = 30 + name.len() + 4000;
    bytes.drain(local..local + cut);
    let end = bytes.len() - 6;
    let directory = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) - cut as u32;
    bytes[end..end + 4].copy_from_slice(&directory.to_le_bytes());
    let (_folder, path) = written(&bytes);
    let error = Tensors::load(&path).unwrap_err().to_string();
    assert!(error.contains("its records have"), "{error}");
}

/// A storage of a million zeros that a thousand tensors name would be four gigabytes.
#[test]
fn a_storage_that_many_tensors_name_is_refused_before_it_is_read() {
    const ELEMENTS: usize = 1 << 20;
    let view = tensor(&storage("Half", "0", ELEMENTS), 0, &[ELEMENTS], &[1]);
    // Stored in the memo once, recalled for every name.
    let first = [&view[..], b"q\x00"].concat();
    let entries: Vec<_> = (0..1000).map(|number| (text(&number.to_string()), b"h\x00".to_vec())).collect();
    let entries = [vec![(text("w"), first)], entries].concat();
    let error = load(&records(pickle(&dict(&entries)), &[("0", vec![0; 2 * ELEMENTS])])).unwrap_err().to_string();
    assert!(error.contains("more elements than the file has bytes"), "{error}");
    // Two of them are tied weights.
    let tied = load(&records(pickle(&dict(&entries[..2])), &[("0", vec![0; 2 * ELEMENTS])])).unwrap();
    assert_eq!((tied.len(), tied.elements()), (2, 2 * ELEMENTS));
}

/// Each storage is what its record holds, though a view fits what the pickle says of it.
#[test]
fn one_record_that_is_said_to_be_two_storages_is_refused() {
    let view = |len: usize| tensor(&storage("Float", "0", len), 0, &[len], &[1]);
    for (one, other) in [(2, 3), (3, 2), (2, 1)] {
        let entries = [(text("v"), view(one)), (text("w"), view(other))];
        let error = load(&records(pickle(&dict(&entries)), &[("0", vec![0; 8])])).unwrap_err().to_string();
        assert!(error.contains("has 8 bytes, not"), "{error}");
    }
}

#[test]
fn other_formats_of_pickles_are_named() {
    let legacy = [LEGACY, b"\x80\x02M\xe9\x03."].concat();
    let bare = pickle(&[&global("os", "system")[..], &tuple(&[text("ls")]), b"R"].concat());
    for (bytes, says) in [
        (legacy, "before version 1.6; load it in PyTorch, and save it again"),
        (bare, "a bare pickle, which may run anything; only tensors are read"),
        (b"PK\x03\x04".to_vec(), "cut short"),
        (b"PK\x03\x04 and something else that is no archive".to_vec(), "cut short"),
    ] {
        let (_folder, path) = written(&bytes);
        let error = Tensors::load(&path).unwrap_err();
        assert!(matches!(error, Error::Weights { .. }) && error.to_string().contains(says), "{says}: {error}");
    }
}
