//! `mlpconv import` and `train --init`: weights that come in.

use super::*;

/// A few small steps on Fashion-MNIST.
const SHORT: &str = "--preset small --epochs 1 --train-limit 32 --test-limit 8 --batch-size 8";
/// Steps at a rate that changes no bit of a weight: what the run began with is what it ends with.
const STILL: &str = "--lr 1e-30 --momentum 0 --weight-decay 0 --schedule constant";

type Tensor = (String, Vec<usize>, Vec<f32>);

/// Whether all values are the same, but for what [`STILL`] makes of a zero.
fn alike(one: &[Tensor], other: &[Tensor]) -> bool {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-20;
    let same = |((name, dims, values), other): (&Tensor, &Tensor)| {
        (name, dims) == (&other.0, &other.1) && values.iter().zip(&other.2).all(near)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// The tensors of a weights file.
fn tensors(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut tensors: Vec<Tensor> =
        file.iter().map(|(name, of)| (name.to_owned(), of.shape().to_vec(), values(of.data()))).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// The weights of the run `trained`, and the same as a file of PyTorch's, `foreign.pt`.
fn foreign(place: &Place) -> Vec<Tensor> {
    place.train(&format!("{SHORT} --optimizer adamw --out trained")).good();
    let trained = tensors(&place.path("trained/weights.safetensors"));
    let named = |(name, dims, values): &Tensor| (format!("module.{name}"), dims.clone(), values.clone());
    let prefixed: Vec<Tensor> = trained.iter().map(named).collect();
    fs::write(place.path("foreign.pt"), pt::file(&prefixed, Some("model"))).unwrap();
    trained
}

fn config_of(place: &Place, run: &str) -> toml::Table {
    toml::from_str(&fs::read_to_string(place.path(run).join("config.toml")).unwrap()).unwrap()
}

#[test]
fn imported_weights_are_evaluated_reported_and_trained_on() {
    let Some(place) = Place::new() else { return };
    let trained = foreign(&place);
    let said = place.mlpconv("import foreign.pt --preset small --out imported").good();
    let parameters: usize = trained.iter().map(|(.., values)| values.len()).sum();
    let line = said.line("weights ").replace(',', "");
    let taken = format!("PyTorch's zip under model without the prefix module. 24 tensors of {parameters} parameters");
    assert_eq!(line, format!("weights  foreign.pt: {taken}"));
    assert_eq!(tensors(&place.path("imported/weights.safetensors")), trained);
    assert_eq!(names(&place.path("imported")), [".lock", "config.toml", "weights.safetensors"]);
    let from = place.path("foreign.pt");
    assert_eq!(config_of(&place, "imported")["imported"].as_str(), from.canonicalize().unwrap().to_str());

    // Nothing needs the file any more.
    fs::rename(from, place.path("moved.pt")).unwrap();
    let loss =
        |run: &str| place.mlpconv(&format!("evaluate {run} --test-limit 64")).good().line("test loss").to_owned();
    assert_eq!(loss("imported"), loss("trained"));
    place.mlpconv("evaluate imported --best").bad(&["no best weights"]);
    place.mlpconv("report imported").good();
    assert!(place.path("imported/report.html").is_file());
    for line in ["--resume imported", "--resume imported --epochs 20"] {
        place.train(line).bad(&["imported", "foreign.pt", "no training to go on with", "train --init RUN"]);
    }
    assert_eq!(tensors(&place.path("imported/weights.safetensors")), trained);
    place.mlpconv("import moved.pt --preset small --out imported").bad(&["the folder is not empty"]);

    let said =
        place.train(&format!("--init imported --train-limit 16 --test-limit 8 --epochs 1 {STILL} --out on")).good();
    assert!(said.line("init ").contains("imported/weights.safetensors: safetensors, 24 tensors of"), "{}", said.stdout);
    assert!(said.line("preset ").ends_with("(that of the weights)"), "{}", said.stdout);
    assert!(alike(&tensors(&place.path("on/weights.safetensors")), &trained));
    assert!(!config_of(&place, "on").contains_key("imported"));
}

#[cfg(unix)]
#[test]
fn an_import_that_fails_leaves_no_half_of_a_run() {
    let Some(place) = Place::new() else { return };
    foreign(&place);
    let import = "import foreign.pt --preset small --out imported";
    // The settings are no larger than that, and the weights are.
    place.mlpconv_within(8, import).bad(&["cannot write imported/weights.safetensors"]);
    assert_eq!(names(&place.path("imported")), [".lock"]);
    place.mlpconv(import).good();
}

#[cfg(feature = "images")]
#[test]
fn imported_weights_predict_as_those_that_they_are() {
    let Some(place) = Place::new() else { return };
    foreign(&place);
    place.mlpconv("import foreign.pt --preset small --out imported").good();
    image::GrayImage::from_fn(50, 60, |x, y| image::Luma([(x * y) as u8])).save(place.path("shoe.png")).unwrap();
    let answer = |run: &str| place.mlpconv(&format!("predict {run} shoe.png --json")).good().stdout;
    assert_eq!(answer("imported"), answer("trained"));
    // Options that take a weights file take one of PyTorch's.
    assert_eq!(answer("trained"), place.mlpconv("predict trained shoe.png --json --weights foreign.pt").good().stdout);
}

#[test]
fn all_tensors_that_do_not_fit_are_listed() {
    let Some(place) = Place::new() else { return };
    let mut trained = foreign(&place);
    for (name, ..) in trained.iter_mut().step_by(3) {
        *name = format!("other.{name}");
    }
    trained[1].1 = vec![trained[1].2.len(), 1];
    fs::write(place.path("other.pt"), pt::file(&trained, None)).unwrap();
    let said = place.mlpconv("import other.pt --preset small --out imported");
    let said = said.bad(&["8 missing, 8 unexpected, 1 of another shape, all listed above"]);
    let begins = |word: &str| said.stderr.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(["missing ", "unexpected ", "reshaped "].map(begins), [8, 8, 1], "{}", said.stderr);
    for (name, ..) in trained.iter().step_by(3) {
        assert!(said.stderr.contains(&format!("unexpected  {name}\n")), "{}", said.stderr);
        let own = name.strip_prefix("other.").unwrap();
        assert!(said.stderr.contains(&format!("missing     {own}\n")), "{}", said.stderr);
    }
    assert!(!place.path("imported").exists());
    place.mlpconv("import foreign.pt --preset cifar --out imported").bad(&["preset cifar", "all listed above"]);
    place.mlpconv("import absent.pt --preset small --out imported").bad(&["absent.pt"]);
    let call = pt::pickle(&[&pt::global("os", "system")[..], &pt::tuple(&[pt::text("touch here")]), b"R"].concat());
    fs::write(place.path("hostile.pt"), pt::zip(&pt::records(call, &[]))).unwrap();
    let says = ["hostile.pt", "it would run os.system; only tensors are read"];
    place.mlpconv("import hostile.pt --preset small --out imported").bad(&says);
    place.train(&format!("{SHORT} --init hostile.pt --out imported")).bad(&says);
    assert!(!place.path("imported").exists() && !place.path("here").exists());
}

#[test]
fn the_normalisation_of_imported_weights_goes_with_them() {
    let Some(place) = Place::new() else { return };
    foreign(&place);
    place.mlpconv("import foreign.pt --preset small --out plain").good();
    place.mlpconv("import foreign.pt --preset small --normalize 0.286:0.353 --out normal").good();
    assert_eq!(config_of(&place, "normal")["normalize"].as_str(), Some("0.286:0.353"));
    let loss =
        |run: &str| place.mlpconv(&format!("evaluate {run} --test-limit 64")).good().line("test loss").to_owned();
    assert_ne!(loss("plain"), loss("normal"));
    place.train("--init normal --epochs 1 --train-limit 8 --test-limit 8 --out on").good();
    assert_eq!(config_of(&place, "on")["normalize"].as_str(), Some("0.286:0.353"));
    place.train("--init normal --normalize 0:1 --epochs 1 --train-limit 8 --test-limit 8 --out own").good();
    assert!(config_of(&place, "own").get("normalize").is_none_or(|own| own.as_str() == Some("0:1")));
    let channels = ["normalize", "3 means for images of 1 channels"];
    place.mlpconv("import foreign.pt --preset small --normalize 0,0,0:1,1,1 --out no").bad(&channels);
    assert!(!place.path("no").exists());
}

#[test]
fn a_run_begins_with_given_weights_and_needs_them_no_more() {
    let Some(place) = Place::new() else { return };
    let trained = foreign(&place);
    for (init, out) in [("trained", "of-run"), ("trained/best.safetensors", "of-best"), ("stripped.pt", "of-pt")] {
        if init == "stripped.pt" {
            fs::write(place.path(init), pt::file(&trained, None)).unwrap();
        }
        place.train(&format!("{SHORT} {STILL} --init {init} --out {out}")).good();
        assert!(alike(&tensors(&place.path(out).join("weights.safetensors")), &trained), "{init}");
        let config = config_of(&place, out);
        assert!(Path::new(config["init"].as_str().unwrap()).is_absolute());
        assert_eq!(Run::open(place.path(out)).unwrap().metrics().unwrap().len(), 1);
    }
    // The same run by its settings, and a run that was killed before it saved anything.
    let said = place.train(&format!("{SHORT} --init trained --seed 5 --lsuv --out moving")).good();
    assert!(said.stderr.contains("warning: --lsuv scales nothing, because the weights of --init"), "{}", said.stderr);
    place.train("--config moving/config.toml --out again").good();
    assert!(place.weights("moving") == place.weights("again"));
    assert_ne!(tensors(&place.path("moving/weights.safetensors")), trained);
    for name in names(&place.path("again")).iter().filter(|name| *name != "config.toml") {
        fs::remove_file(place.path("again").join(name)).unwrap();
    }
    place.train("--resume again").good();
    assert!(place.weights("moving") == place.weights("again"));
    fs::rename(place.path("trained"), place.path("elsewhere")).unwrap();
    place.train("--resume moving --epochs 2").good();

    assert_eq!(place.train("--resume moving --init elsewhere").code, Some(2));
    place.train(&format!("{SHORT} --init absent --out none")).bad(&["absent"]);
    place.train(&format!("{SHORT} --reset-head --out none")).bad(&["reset-head", "--init"]);
    place.train("--preset cifar --data fashion-mnist --init elsewhere --out none").bad(&["elsewhere", "missing"]);
    assert!(!place.path("none").exists());
    let dry = place.train(&format!("{SHORT} --init elsewhere --dry-run")).good();
    assert!(dry.line("# init ").contains("24 tensors"), "{}", dry.stdout);
}

#[cfg(feature = "images")]
#[test]
fn another_number_of_classes_is_named_and_its_head_reset_if_asked_for() {
    let place = other_data::place();
    other_data::colours(&place.path("colours"), [20, 24], 8, 2);
    other_data::cifar(&place.path("cifar-10"));
    let short = "--epochs 1 --batch-size 8 --train-limit 8 --test-limit 4";
    place.train(&format!("--preset small --data colours {short} --out three")).good();
    let ten = format!("--preset small --data cifar10 --data-dir cifar-10 {short} {STILL} --seed 3");
    let says = ["3 classes", "the data set cifar10 has 10", "--reset-head"];
    place.train(&format!("{ten} --init three --out ten")).bad(&says);
    let import = "import three/weights.safetensors --preset small --data cifar10 --out ten";
    place.mlpconv(import).bad(&says[..2]);
    assert!(!place.path("ten").exists());

    let said = place.train(&format!("{ten} --init three --reset-head --out ten")).good();
    let line = said.line("init ");
    assert!(line.ends_with("fresh from 6.0.weight to 6.4.bias"), "{line}");
    place.train(&format!("{ten} --out fresh")).good();
    let weights = |run: &str| tensors(&place.path(run).join("weights.safetensors"));
    let (three, fresh) = (weights("three"), weights("fresh"));
    let mut heads = 0;
    for ((ours, body), head) in weights("ten").into_iter().zip(&three).zip(&fresh) {
        let is_head = ours.0.starts_with("6.");
        heads += usize::from(is_head);
        let expected = if is_head { head } else { body };
        assert!(alike(&[ours], std::slice::from_ref(expected)), "{}", expected.0);
    }
    assert_eq!(heads, 6);
    let config = config_of(&place, "ten");
    assert_eq!(config["reset_head"].as_bool(), Some(true));
    // A head that fits is taken.
    let same = format!("--preset small --data colours {short} {STILL} --seed 3");
    let said = place.train(&format!("{same} --init three --reset-head --out same")).good();
    assert!(said.line("init ").ends_with("its head fits, and is taken too"), "{}", said.stdout);
    assert!(alike(&weights("same"), &three));
    place.train("--resume ten --epochs 2").good();
}
