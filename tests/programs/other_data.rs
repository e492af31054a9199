//! Data sets other than Fashion-MNIST.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A working folder from which no data set is found: `$MLPCONV_DATA` names an empty folder.
pub fn place() -> Place {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("nothing");
    fs::create_dir(&data).unwrap();
    Place { folder, data }
}

/// A folder of colour images of three classes. The classes differ only in the channel that is not black.
#[cfg(feature = "images")]
pub fn colours(folder: &Path, [height, width]: [u32; 2], train: u32, test: u32) {
    for (half, count) in [("train", train), ("test", test)] {
        for (class, name) in ["red", "green", "blue"].into_iter().enumerate() {
            let folder = folder.join(half).join(name);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let noise = |x: u32, y: u32| ((x + width * y + 7919 * i).wrapping_mul(2_654_435_761) >> 25) as u8;
                let image = image::RgbImage::from_fn(width, height, |x, y| {
                    let mut pixel = [0; 3];
                    pixel[class] = 128 + noise(x, y);
                    image::Rgb(pixel)
                });
                image.save(folder.join(format!("{i:03}.png"))).unwrap();
            }
        }
    }
}

#[cfg(feature = "images")]
#[test]
fn a_folder_of_images_is_described_and_trained_on() {
    let place = place();
    colours(&place.path("colours"), [20, 24], 40, 8);
    let said = place.mlpconv("data --data colours").good();
    assert!(said.stdout.starts_with("colours: 120 training and 24 test images in colours (given by --data)\n"));
    assert!(said.stdout.ends_with("20x24, RGB; 3 classes: blue, green, red\n"), "{}", said.stdout);

    let options = "--preset small --data colours --batch-size 8 --epochs 3 --seed 2";
    let said = place.train(&format!("{options} --out run")).good();
    assert!(said.line("data ").contains("colours in ") && said.line("data ").contains("given by --data"));
    let run = Run::open(place.path("run")).unwrap();
    let metrics = run.metrics().unwrap();
    // Guessing has a loss of ln 3 and an accuracy of a third. A network that reads only one channel has two thirds
    // at most.
    assert!(metrics[2].loss < 0.7 * 3f64.ln() && metrics[2].test_accuracy > 0.6, "{metrics:?}");

    // Evaluation works from any working folder, as the run stores the data's absolute path.
    let mut command = place.command(MLPCONV, &format!("evaluate {}", place.path("run").display()));
    let evaluated = Finished::of(command.current_dir(place.path("nothing"))).good().stdout;
    assert!(evaluated.lines().next().unwrap().ends_with(" on 24 images"), "{evaluated}");
    // If the data's folder has moved, an option names the new one.
    fs::rename(place.path("colours"), place.path("moved")).unwrap();
    place.mlpconv("evaluate run").bad(&["colours", "no such folder"]);
    assert_eq!(place.mlpconv("evaluate run --data-dir moved").good().stdout, evaluated);
    assert_eq!(place.mlpconv("evaluate run --data moved").good().stdout, evaluated);
}

#[cfg(all(unix, feature = "images"))]
#[test]
fn names_of_classes_cannot_command_a_terminal() {
    let place = place();
    colours(&place.path("colours"), [8, 8], 2, 1);
    for half in ["train", "test"] {
        let class = |name: &str| place.path(&format!("colours/{half}/{name}"));
        fs::rename(class("red"), class("\x1b[2Jred")).unwrap();
    }
    let said = place.mlpconv("data --data colours").good();
    assert!(said.stdout.contains("\u{fffd}[2Jred") && !said.stdout.contains('\x1b'), "{:?}", said.stdout);
}

#[cfg(feature = "images")]
#[test]
fn a_file_that_is_no_image_ends_a_run_before_it_begins() {
    let place = place();
    colours(&place.path("colours"), [8, 8], 2, 1);
    fs::write(place.path("colours/train/red/001.png"), "<html>no</html>").unwrap();
    place.train("--preset small --data colours --out run").bad(&["colours/train/red/001.png", "replace it"]);
    assert!(!place.path("run").exists());
}

/// A folder with CIFAR-10's files, of two records each. It is the data set of preset `cifar`, and other presets
/// can use it.
pub fn cifar(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (i, file) in known::CIFAR10.files().enumerate() {
        let record = |label: u8| [label].into_iter().chain((0..3072u32).map(move |j| (j * 7 + u32::from(label)) as u8));
        let content: Vec<u8> = record(i as u8).chain(record(9 - i as u8)).collect();
        fs::write(folder.join(file.name), content).unwrap();
    }
}

#[test]
fn the_papers_network_trains_on_its_data_set() {
    let place = place();
    cifar(&place.path("cifar"));
    let options = "--preset cifar --data-dir cifar --train-limit 4 --test-limit 2 --batch-size 2 --epochs 1";
    let said = place.train(&format!("{options} --out run")).good();
    assert!(said.line("preset ").contains("cifar at 32x32"), "{}", said.stdout);
    assert!(said.line("network ").contains("966,986 parameters"), "{}", said.stdout);
    assert!(said.line("data ").contains("/cifar (given by --data-dir)"), "{}", said.stdout);
    assert!(said.stderr.contains("warning: ") && said.stderr.contains("data_batch_1.bin"), "{}", said.stderr);
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("preset = \"cifar\"") && config.contains("data = \"cifar10\""), "{config}");
    let said = place.mlpconv("summary --preset cifar").good();
    assert!(said.stdout.starts_with("cifar, input [1, 3, 32, 32]\n"), "{}", said.stdout);
    assert!(said.stdout.contains("966,986"), "{}", said.stdout);
}

#[test]
fn a_preset_takes_channels_and_classes_from_other_data() {
    let place = place();
    cifar(&place.path("cifar"));
    let limits = "--train-limit 4 --test-limit 2 --batch-size 2 --epochs 1";
    let named = place.train(&format!("--preset small --data cifar10 --data-dir cifar {limits} --out named")).good();
    let folder = place.train(&format!("--preset small --data cifar {limits} --out folder")).good();
    // Two channels more than on grey images, in a 5x5 filter with 48 outputs: 2,400 parameters more.
    for said in [named, folder] {
        assert!(said.line("network ").contains("399,974 parameters"), "{}", said.stdout);
    }
    assert!(place.weights("named") == place.weights("folder"));
    let fewer = place.mlpconv("evaluate named --data-dir cifar").good();
    assert!(fewer.line("test loss ").ends_with(" on 2 images"), "{}", fewer.stdout);
}

/// `doctor` reads the data: a truncated file has the right name.
#[test]
fn the_doctor_finds_damage() {
    let place = place();
    cifar(&place.path("cifar"));
    let said = place.mlpconv("doctor --data cifar10 --data-dir cifar").good();
    assert!(said.line("data ").ends_with("10 training and 2 test images"), "{}", said.stdout);
    assert!(said.line("warning ").contains("data_batch_1.bin is not the published file"), "{}", said.stdout);
    let file = place.path("cifar/data_batch_4.bin");
    fs::write(&file, &fs::read(&file).unwrap()[..5000]).unwrap();
    for line in ["doctor --data cifar10 --data-dir cifar", "doctor --data cifar"] {
        let said = place.mlpconv(line);
        assert!(said.line("data ").contains("cannot be used"), "{}", said.stdout);
        assert!(said.line("cpu ").contains("threads"), "everything else is told all the same");
        said.bad(&["data_batch_4.bin", "truncated"]);
    }
}

/// Files with Kaggle's names are read; a proxy's web page in place of a file is reported.
#[test]
fn kaggles_names_are_read_and_web_pages_are_refused() {
    let place = place();
    let idx = |dimensions: &[u32], body: &[u8]| {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
        [&bytes, body].concat()
    };
    let folder = place.path("kaggle");
    fs::create_dir(&folder).unwrap();
    for (half, count) in [("train", 12u32), ("t10k", 3)] {
        let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
        fs::write(
            folder.join(format!("{half}-images.idx3-ubyte")),
            idx(&[count, 28, 28], &vec![9; count as usize * 784]),
        )
        .unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&idx(&[count], &labels)).unwrap();
        fs::write(folder.join(format!("{half}-labels.idx1-ubyte.gz")), gzip.finish().unwrap()).unwrap();
    }
    for (name, title) in [("fashion-mnist", "Fashion-MNIST"), ("mnist", "MNIST"), ("kmnist", "Kuzushiji-MNIST")] {
        let said = place.mlpconv(&format!("data --data {name} --data-dir kaggle")).good();
        assert!(
            said.stdout.starts_with(&format!("{title}: 12 training and 3 test images in kaggle")),
            "{}",
            said.stdout
        );
        let said = place.mlpconv(&format!("doctor --data {name} --data-dir kaggle")).good();
        assert!(said.line("data ").contains(&format!("{title} in kaggle")), "{}", said.stdout);
    }
    place.mlpconv("data --data kaggle").bad(&["fashion-mnist, mnist, kmnist", "--data NAME"]);
    // Beside a good copy the page costs a warning.
    fs::write(folder.join("train-images-idx3-ubyte.gz"), "<html><h1>Not found</h1></html>").unwrap();
    let said = place.mlpconv("data --data mnist --data-dir kaggle").good();
    assert!(said.stderr.contains("web page") && said.stderr.contains("was read instead"), "{}", said.stderr);
    fs::remove_file(folder.join("train-images.idx3-ubyte")).unwrap();
    place.mlpconv("data --data mnist --data-dir kaggle").bad(&[
        "train-images-idx3-ubyte.gz",
        "web page",
        "get it again",
    ]);
}

#[test]
fn an_unknown_data_set_is_refused_with_the_known_ones() {
    let place = place();
    place.train("--data cfiar10").bad(&["cfiar10", "fashion-mnist, mnist, kmnist, cifar10"]);
    place.train("--data nothing").bad(&["nothing", "train/CLASS"]);
    place.train("--preset cifar").bad(&["CIFAR-10", "cifar-10-binary.tar.gz", "--data-dir"]);
    place.train("--resume nothing --data mnist").bad(&["--resume"]);
    assert_eq!(names(place.folder.path()), ["nothing"]);
    place.mlpconv("doctor --data nothing").bad(&["nothing", "no folders of images"]);
}
