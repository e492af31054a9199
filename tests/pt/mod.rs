//! Files of `torch.save`, made by hand: pickles opcode by opcode, and a zip archive around them with whatever is to be
//! wrong.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

/// A record of an archive. `crc`, `claims` and the rest are what its headers say; [`Record::new`] says the truth.
#[derive(Clone)]
pub struct Record {
    pub name: String,
    pub bytes: Vec<u8>,
    pub crc: u32,
    pub claims: u32,
    pub method: u16,
    pub flags: u16,
}

impl Record {
    pub fn new(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let (crc, claims) = (rawzip::crc32(&bytes), bytes.len() as u32);
        Record { name: name.into(), bytes, crc, claims, method: 0, flags: 0 }
    }
}

/// A zip archive of these records.
pub fn zip(records: &[Record]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for Record { name, bytes, crc, claims, method, flags } in records {
        let at = file.len() as u32;
        let [crc, claims, packed] = [*crc, *claims, bytes.len() as u32].map(u32::to_le_bytes);
        let [flags, method, name_len] = [*flags, *method, name.len() as u16].map(u16::to_le_bytes);
        let common = [&flags[..], &method, &[0; 4], &crc, &packed, &claims, &name_len, &[0; 2]].concat();
        file.extend([b"PK\x03\x04\x14\0".as_slice(), &common, name.as_bytes(), bytes].concat());
        let rest = [&[0; 10][..], &at.to_le_bytes(), name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02\x14\0\x14\0".as_slice(), &common, &rest].concat());
    }
    let (count, size, at) = (records.len() as u16, directory.len() as u32, file.len() as u32);
    let count = count.to_le_bytes();
    let end = [&b"PK\x05\x06"[..], &[0; 4], &count, &count, &size.to_le_bytes(), &at.to_le_bytes(), &[0; 2]].concat();
    [file, directory, end].concat()
}

/// The records of a file with this pickle and these storages, as `torch.save` writes them.
pub fn records(pickle: Vec<u8>, storages: &[(&str, Vec<u8>)]) -> Vec<Record> {
    let own = [Record::new("a/data.pkl", pickle), Record::new("a/byteorder", *b"little")];
    let storages = storages.iter().map(|(key, bytes)| Record::new(&format!("a/data/{key}"), bytes.clone()));
    own.into_iter().chain(storages).chain([Record::new("a/version", *b"3\n")]).collect()
}

/// A file with a state dict of f32 tensors (names, dimensions and values), under the entry `wrapper` if one is named.
pub fn file(tensors: &[(String, Vec<usize>, Vec<f32>)], wrapper: Option<&str>) -> Vec<u8> {
    let (mut entries, mut storages) = (Vec::new(), Vec::new());
    let keys: Vec<String> = (0..tensors.len()).map(|key| key.to_string()).collect();
    for ((name, dims, values), key) in tensors.iter().zip(&keys) {
        entries.push((text(name), tensor(&storage("Float", key, values.len()), 0, dims, &strides(dims))));
        storages.push((&**key, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    let state = dict(&entries);
    let whole = match wrapper {
        Some(wrapper) => dict(&[(text("epoch"), int(3)), (text(wrapper), state)]),
        None => state,
    };
    zip(&records(pickle(&whole), &storages))
}

/// The strides of a tensor whose elements follow each other.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    (1..=dims.len()).map(|from| dims[from..].iter().product()).collect()
}

/// A pickle of protocol 2 that holds the value which these opcodes make.
pub fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

/// BINUNICODE.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// LONG1 of eight bytes.
pub fn int(number: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &number.to_le_bytes()].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// MARK, the parts, TUPLE.
pub fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &parts.concat()[..], b"t"].concat()
}

/// EMPTY_DICT, MARK, keys and values, SETITEMS.
pub fn dict(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [&key[..], value].concat()).collect();
    [b"}(", &entries[..], b"u"].concat()
}

/// A storage of `len` elements of a type, as in `Float`.
pub fn storage(kind: &str, key: &str, len: usize) -> Vec<u8> {
    let parts = [text("storage"), global("torch", &format!("{kind}Storage")), text(key), text("cpu"), int(len as i64)];
    [&tuple(&parts)[..], b"Q"].concat()
}

pub fn tensor(storage: &[u8], offset: i64, dims: &[usize], strides: &[usize]) -> Vec<u8> {
    let numbers = |numbers: &[usize]| tuple(&numbers.iter().map(|&number| int(number as i64)).collect::<Vec<_>>());
    let hooks = [&global("collections", "OrderedDict")[..], b")R"].concat();
    let parts = [storage.to_vec(), int(offset), numbers(dims), numbers(strides), b"\x89".to_vec(), hooks];
    [&global("torch._utils", "_rebuild_tensor_v2")[..], &tuple(&parts), b"R"].concat()
}
