//! What a run leaves beside its weights and its state: results for spreadsheets, and the weights of its best epoch.

use super::*;

/// Five steps an epoch. The rate is high: the accuracy may go up and down.
const OPTIONS: &str = "--preset small --schedule constant --lr 0.05 --train-limit 40 --test-limit 64 --batch-size 8";

/// The cells of `results.csv` below its header, as JSON with the header's names.
fn results(run: &Path) -> Vec<EpochMetrics> {
    let text = fs::read_to_string(run.join("results.csv")).unwrap();
    assert!(text.ends_with('\n') && !text.contains('\r'), "{text:?}");
    let mut rows = text.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let of_row = |row: Vec<&str>| {
        assert_eq!(row.len(), header.len(), "{text}");
        let cells = header.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.parse().unwrap()));
        serde_json::from_value(serde_json::Value::Object(cells.collect())).unwrap()
    };
    rows.map(of_row).collect()
}

#[test]
fn results_are_a_table_without_gaps_after_every_resume() {
    let Some(place) = Place::new() else { return };
    let run = place.path("run");
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    for epochs in 1..=3 {
        place.train(&format!("--resume run --epochs {epochs}")).good();
        let metrics = Run::open(&run).unwrap().metrics().unwrap();
        assert_eq!(metrics.len(), epochs);
        assert_eq!(results(&run), metrics);
    }
    let path = run.join("results.csv");
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    for damaged in [
        format!("{}\n", lines[1..].join("\n")),
        format!("{}\n{}\n{}\n", lines[0], lines[1], lines[3]),
        good.replacen("0.", "1.", 1),
        good.trim_end().to_owned(),
        format!("{good}garbage\n"),
        String::new(),
    ] {
        fs::write(&path, &damaged).unwrap();
        let said = place.train("--resume run").good();
        assert!(said.stderr.contains("results.csv did not have the epochs"), "{damaged}{}", said.stderr);
        assert_eq!(fs::read_to_string(&path).unwrap(), good);
    }
    // Older versions wrote none.
    fs::remove_file(&path).unwrap();
    assert_eq!(place.train("--resume run").good().stderr, "");
    assert_eq!(fs::read_to_string(&path).unwrap(), good);
    // A run that was killed between telling an epoch and saving its state.
    let metrics = run.join("metrics.jsonl");
    let told = fs::read_to_string(&metrics).unwrap();
    let fourth = told.lines().last().unwrap().replace("\"epoch\":3", "\"epoch\":4");
    fs::write(&metrics, format!("{told}{fourth}\n")).unwrap();
    assert_eq!(place.train("--resume run").good().stderr, "");
    fs::write(&path, format!("{good}{}\n", lines[3].replacen('3', "4", 1))).unwrap();
    assert_eq!(place.train("--resume run").good().stderr, "");
    place.train("--resume run --epochs 4").good();
    assert_eq!(results(&run), Run::open(&run).unwrap().metrics().unwrap());
}

/// The accuracy that `evaluate` tells.
fn accuracy(said: &Finished) -> f64 {
    let line = said.line("test loss");
    line.split("test accuracy ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_best_epochs_weights_are_kept_and_used() {
    let Some(place) = Place::new() else { return };
    let run = place.path("run");
    place.train(&format!("{OPTIONS} --epochs 6 --out run")).good();
    let metrics = Run::open(&run).unwrap().metrics().unwrap();
    let highest = metrics.iter().map(|epoch| epoch.test_accuracy).fold(0.0, f64::max);
    let earliest = metrics.iter().find(|epoch| epoch.test_accuracy == highest).unwrap();
    let last = metrics.last().unwrap();

    // After so many epochs the last weights were the best.
    let shorter = format!("{OPTIONS} --epochs {} --out shorter", earliest.epoch);
    let said = place.train(&shorter).good();
    let best = format!("epoch {}, test accuracy {highest:.4}", earliest.epoch);
    assert!(said.line("best ").ends_with(&format!("best.safetensors ({best})")), "{}", said.stdout);
    let tensors = |file: &str| {
        let bytes = fs::read(place.path(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = tensors.iter().map(|(name, of)| (name.to_owned(), of.data().to_vec())).collect();
        tensors.sort();
        tensors
    };
    assert!(tensors("run/best.safetensors") == tensors("shorter/weights.safetensors"));

    let said = place.mlpconv("evaluate run --best").good();
    assert!(said.stderr.contains(&format!("the best weights: {best}")), "{}", said.stderr);
    assert!((accuracy(&said) - highest).abs() < 5e-5, "{}", said.stdout);
    assert!((accuracy(&place.mlpconv("evaluate run").good()) - last.test_accuracy).abs() < 5e-5);
    // Whichever epoch was the best, these are two files.
    place.train(&format!("{OPTIONS} --epochs 1 --seed 7 --out other")).good();
    let (last, best) = (fs::read(run.join("weights.safetensors")).unwrap(), said.line("test loss").to_owned());
    fs::copy(place.path("other/weights.safetensors"), run.join("weights.safetensors")).unwrap();
    assert_ne!(place.mlpconv("evaluate run").good().line("test loss"), best);
    assert_eq!(place.mlpconv("evaluate run --best").good().line("test loss"), best);
    fs::write(run.join("weights.safetensors"), last).unwrap();
    assert!(place.mlpconv("evaluate run --best --weights run/weights.safetensors").code == Some(2));

    // Whoever goes on knows which epoch is the best.
    place.train(&format!("{OPTIONS} --epochs 2 --out resumed")).good();
    place.train("--resume resumed --epochs 6").good();
    assert!(tensors("resumed/best.safetensors") == tensors("run/best.safetensors"));
    // Damaged best weights are refused, and nothing else needs them.
    let path = run.join("best.safetensors");
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other = fs::read(run.join("weights.safetensors")).unwrap();
    for (damaged, says) in
        [(&flipped[..], "do not match"), (&other, "does not say"), (&good[..100], "best.safetensors")]
    {
        fs::write(&path, damaged).unwrap();
        place.mlpconv("evaluate run --best").bad(&["best.safetensors", says]);
        place.mlpconv("evaluate run").good();
    }
    fs::remove_file(&path).unwrap();
    place.mlpconv("evaluate run --best").bad(&["run", "no best weights", "take the last ones"]);
    assert_eq!(place.train("--resume run").good().stderr, "");
}
