//! Pictures of one's own: `mlpconv predict` beside `mlpconv evaluate`.

use std::io::{Cursor, Write as _};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage};
use mlpconv::data::{Dataset, Splits};
use serde_json::Value;

use super::*;

/// A place with a run of a few steps, `run`, and the test images.
fn place() -> Option<(Place, Dataset)> {
    let place = Place::new()?;
    let options =
        "--preset small --optimizer adamw --epochs 1 --train-limit 2560 --test-limit 16 --batch-size 32 --seed 1";
    place.train(&format!("{options} --out run")).good();
    let source = Splits::find(&known::FASHION_MNIST, Some(&place.data)).unwrap().unwrap();
    let test = Splits::read(&known::FASHION_MNIST, source).unwrap().test;
    Some((place, test))
}

fn picture(test: &Dataset, i: usize) -> GrayImage {
    GrayImage::from_raw(28, 28, test.image(i).to_vec()).unwrap()
}

fn answers(said: &Finished) -> Vec<Value> {
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn label(answer: &Value) -> usize {
    answer["label"].as_u64().unwrap_or_else(|| panic!("{answer}")) as usize
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn pictures_of_the_test_images_are_told_as_evaluate_counts_them() {
    let Some((place, test)) = place() else { return };
    const IMAGES: usize = 200;
    let names: Vec<String> = (0..IMAGES).map(|i| format!("{i:03}.png")).collect();
    for (i, name) in names.iter().enumerate() {
        picture(&test, i).save(place.path(name)).unwrap();
    }
    let said = Finished::of(place.command(MLPCONV, "predict run --json").args(&names)).good();
    let answers = answers(&said);
    assert_eq!(answers.len(), IMAGES);
    let mut confusion = vec![vec![0; 10]; 10];
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!((answer["file"].as_str(), answer["inverted"].as_bool()), (Some(&*names[i]), Some(false)));
        let top = answer["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["label"]), (3, &answer["label"]));
        assert_eq!(answer["class"].as_str(), Some(&*test.class_names()[label(answer)]));
        let probabilities: Vec<f64> = top.iter().map(|guess| guess["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b) && probabilities.iter().sum::<f64>() < 1.0001, "{answer}");
        confusion[usize::from(test.labels()[i])][label(answer)] += 1;
    }
    let evaluated = place.mlpconv(&format!("evaluate run --test-limit {IMAGES} --json")).good();
    let evaluated: Value = serde_json::from_str(&evaluated.stdout).unwrap();
    assert_eq!(evaluated["confusion"], serde_json::json!(confusion));
    let hits = (0..10).map(|class| confusion[class][class]).sum::<usize>();
    assert_eq!(evaluated["accuracy"].as_f64(), Some(hits as f64 / IMAGES as f64));
    assert!(hits > 60, "{hits} hits of {IMAGES}: the run has learnt too little for this test");

    // The figures of each class are those of its row and column.
    let classes = evaluated["classes"].as_array().unwrap();
    for (class, told) in classes.iter().enumerate() {
        let row: usize = confusion[class].iter().sum();
        let column: usize = confusion.iter().map(|row| row[class]).sum();
        let share = |whole: usize| (whole > 0).then(|| confusion[class][class] as f64 / whole as f64);
        assert_eq!(told["images"].as_u64(), Some(row as u64));
        assert_eq!((told["recall"].as_f64(), told["precision"].as_f64()), (share(row), share(column)), "{told}");
    }
    let text = place.mlpconv(&format!("evaluate run --test-limit {IMAGES}")).good().stdout;
    let table: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(table.len(), 11, "{text}");
    assert!(table.iter().all(|line| line.chars().count() <= 64), "{text}");

    // Enlarged, on white paper with a margin, as Zalando's photographs were.
    let mut same = 0;
    let names: Vec<String> = (0..100).map(|i| format!("paper-{i:03}.png")).collect();
    for (i, name) in names.iter().enumerate() {
        let small = picture(&test, i);
        let paper = GrayImage::from_fn(400, 500, |x, y| match (x.checked_sub(60), y.checked_sub(110)) {
            (Some(x), Some(y)) if x < 280 && y < 280 => Luma([255 - small.get_pixel(x / 10, y / 10)[0]]),
            _ => Luma([255]),
        });
        paper.save(place.path(name)).unwrap();
    }
    let said = Finished::of(place.command(MLPCONV, "predict run --json").args(&names)).good();
    for (answer, before) in self::answers(&said).iter().zip(&answers) {
        assert_eq!(answer["inverted"].as_bool(), Some(true));
        same += usize::from(label(answer) == label(before));
    }
    assert!(same >= 75, "{same} of 100 enlarged pictures are told as the images themselves");
}

/// One line for each file that is no picture, and answers for the others.
#[test]
fn any_file_is_answered_or_refused_in_a_line() {
    let Some((place, test)) = place() else { return };
    let write = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    let boot = picture(&test, 0);
    let whole = png(boot.clone());
    // A photograph's size; the half above is transparent.
    let photo = RgbaImage::from_fn(4000, 3000, |x, y| {
        let grey = (x / 16) as u8 ^ (y / 12) as u8;
        Rgba([grey, 90, 200, if y < 1500 { 0 } else { 255 }])
    });
    write("photo.png", &png(photo));
    let deep =
        image::ImageBuffer::<Luma<u16>, _>::from_fn(28, 28, |x, y| Luma([u16::from(boot.get_pixel(x, y)[0]) * 257]));
    write("deep.png", &png(deep));
    write("one.png", &png(GrayImage::from_pixel(1, 1, Luma([200]))));
    write("palette.png", &palette(&boot));
    write("line.png", &png(GrayImage::from_fn(3000, 1, |x, _| Luma([(x / 12) as u8]))));
    let mut jpeg = Cursor::new(Vec::new());
    boot.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    write("picture.jpg", jpeg.get_ref());
    write("nothing.png", b"");
    write("words.png", b"This is no picture.\n");
    write("page.png", b"<!DOCTYPE html><html></html>");
    write("half.png", &whole[..whole.len() / 2]);
    write("photo.gif", b"GIF89a\x01\x00\x01\x00");
    // Its head claims 20000x20000 pixels, which 60 bytes cannot hold.
    let mut bomb = whole[..60].to_vec();
    bomb[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let mut crc = flate2::Crc::new();
    crc.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    write("bomb.png", &bomb);
    fs::create_dir(place.path("folder.png")).unwrap();

    let good = ["photo.png", "deep.png", "one.png", "palette.png", "line.png", "picture.jpg"];
    let bad = [
        ("nothing.png", "is empty"),
        ("words.png", "is neither a PNG nor a JPEG file"),
        ("page.png", "is a web page"),
        ("half.png", "cannot be read as an image"),
        ("photo.gif", "is neither a PNG nor a JPEG file"),
        ("bomb.png", "claims more pixels"),
        ("folder.png", "directory"),
        ("missing.png", "No such file"),
    ];
    let files: Vec<&str> = good.into_iter().chain(bad.map(|(name, _)| name)).collect();
    let said = Finished::of(place.command(MLPCONV, "predict run --json").args(&files));
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let answers = answers(&said);
    assert_eq!(answers.iter().map(|answer| answer["file"].as_str().unwrap()).collect::<Vec<_>>(), files);
    let labels: Vec<usize> = answers[..good.len()].iter().map(label).collect();
    assert_eq!(said.stderr.lines().count(), bad.len(), "{}", said.stderr);
    for ((name, problem), (line, answer)) in bad.iter().zip(said.stderr.lines().zip(&answers[good.len()..])) {
        assert!(line.starts_with("error: ") && line.contains(name) && line.contains(problem), "{line}");
        assert_eq!(answer["error"].as_str(), line.strip_prefix("error: "));
    }

    // The same pixels in another depth, in a palette and from standard input.
    let mut command = place.command(MLPCONV, "predict run --json -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&whole).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let piped: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((piped["file"].as_str(), labels[1], labels[3]), (Some("-"), label(&piped), label(&piped)));
    for answer in [&answers[1], &answers[3]] {
        assert_eq!(answer["top"][0]["probability"], piped["top"][0]["probability"], "the bits are the same");
    }
    let nothing = place.mlpconv("predict run -").bad(&["standard input", "is empty"]);
    assert_eq!(nothing.stdout, "");
}

/// A PNG file of 8 bits a pixel with a palette of greys. The encoder of `image` writes none.
fn palette(grey: &GrayImage) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
    };
    // The palette is backwards, so that its indices are no levels.
    let colours: Vec<u8> = (0..=255).rev().flat_map(|level| [level; 3]).collect();
    let rows: Vec<u8> = grey.rows().flat_map(|row| std::iter::once(0).chain(row.map(|pixel| 255 - pixel[0]))).collect();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&rows).unwrap();
    let size = [grey.width().to_be_bytes(), grey.height().to_be_bytes()].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &[&size[..], &[8, 3, 0, 0, 0]].concat()),
        chunk(b"PLTE", &colours),
        chunk(b"IDAT", &packed.finish().unwrap()),
        chunk(b"IEND", b""),
    ]
    .concat()
}

#[test]
fn answers_fit_forty_columns_in_the_locales_letters() {
    let Some((place, test)) = place() else { return };
    picture(&test, 0).save(place.path("boot.png")).unwrap();
    for (locale, ascii) in [("C", true), ("C.UTF-8", false)] {
        let mut command = place.command(MLPCONV, "predict run boot.png --top 4");
        let said = Finished::of(command.env("LC_ALL", locale).env_remove("TERM")).good().stdout;
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 5 && lines[0] == "boot.png", "{said}");
        assert!(lines[1..].iter().all(|line| line.starts_with("  ") && line.contains('%')), "{said}");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{said}");
        assert_eq!(said.is_ascii(), ascii, "{said}");
        assert!(!said.contains('\x1b'), "{said}");
    }
    let said = place.mlpconv("predict run boot.png --show --invert yes").good().stdout;
    assert!(said.starts_with("boot.png (inverted)\n") && said.lines().count() == 1 + 14 + 3, "{said}");
    place.mlpconv("predict run boot.png --invert maybe").bad(&["--invert", "none of auto, yes and no"]);
    place.mlpconv("predict run boot.png --top 0").bad(&["top", "at least 1"]);
    place.mlpconv("predict elsewhere boot.png").bad(&["elsewhere", "config.toml"]);
    place.mlpconv("predict run boot.png --weights boot.png").bad(&["boot.png"]);
}

/// Of a run on a folder of images the folder tells the classes, and its images are told as they were trained on.
#[test]
fn a_run_on_a_folder_of_images_tells_its_classes() {
    let place = other_data::place();
    other_data::colours(&place.path("colours"), [20, 24], 40, 8);
    place.train("--preset small --data colours --batch-size 8 --epochs 3 --seed 2 --out run").good();
    let files: Vec<String> = ["blue", "green", "red"].map(|class| format!("colours/test/{class}/003.png")).into();
    let said = Finished::of(place.command(MLPCONV, "predict run --json").args(&files)).good();
    let answers = answers(&said);
    let hits = answers.iter().zip(["blue", "green", "red"]).filter(|(answer, class)| answer["class"] == *class);
    assert!(hits.count() >= 2, "{}", said.stdout);
    fs::rename(place.path("colours"), place.path("moved")).unwrap();
    place.mlpconv("predict run moved/test/red/003.png").bad(&["colours", "no such folder"]);
    place.mlpconv("predict run moved/test/red/003.png --data moved").good();
}
