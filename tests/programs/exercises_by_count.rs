//! The exercises whose answers are counted and measured: `heads`, `resources` and `reduce`.

use super::*;

/// Does an exercise, with its files in `NAME`, and returns what it said, the report and the results.
fn exercise(place: &Place, name: &str, options: &str) -> (String, String, String) {
    let said = place.mlpconv(&format!("exercise {name} --out {name} --device cpu {options}")).good().stdout;
    let file = |file: &str| fs::read_to_string(place.path(name).join(file)).unwrap();
    let (report, results) = (file("report.html"), file("results.csv"));
    assert!(report.contains("<svg") && !report.contains("NaN"), "{report}");
    let columns = |line: &str| {
        let unquoted: String = line.split('"').step_by(2).collect();
        unquoted.matches(',').count()
    };
    let head = columns(results.lines().next().unwrap());
    assert!(results.lines().count() > 1 && results.lines().all(|line| columns(line) == head), "{results}");
    (said, report, results)
}

/// The cells of the table's row that begins with `name`.
fn row<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let row = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
    let row = row.unwrap_or_else(|| panic!("no row begins with {name:?}: {said}"));
    row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn heads_are_counted_as_the_book_counts_them() {
    let Some(place) = Place::new() else { return };
    let (said, report, results) = exercise(&place, "heads", "--batch-size 1");
    for (name, formula, count) in [
        ("LeNet", "16 x 5 x 5 x 120", "48,000"),
        ("AlexNet", "256 x 5 x 5 x 4096", "26,214,400"),
        ("VGG", "512 x 7 x 7 x 4096", "102,760,448"),
        ("NiN, last block", "384 x 3 x 3 x 10 + 10 x 10 + 10 x 10", "34,760"),
        ("NiN, last block with biases", "34,760 + 10 + 10 + 10", "34,790"),
        ("NiN, whole network", "1,957,376 + 34,790", "1,992,166"),
    ] {
        assert_eq!(row(&said, name)[..2], [formula, count]);
        assert!(report.contains(count), "{count}");
    }
    assert!(said.contains("(754.2 times as many)") && said.contains("1,992,166 of the whole network"), "{said}");
    // VGG's head is counted, but not run.
    assert_eq!(row(&said, "VGG")[3..], ["–", "–"]);
    assert!(results.lines().any(|line| line.starts_with("VGG,512 x 7 x 7 x 4096,102760448,no,")), "{results}");
}

#[test]
fn resources_are_predicted_beside_measured() {
    let Some(place) = Place::new() else { return };
    let (said, _, results) = exercise(&place, "resources", "--batch-size 16");
    assert_eq!(row(&said, "the whole network, with its update")[0], "397,574");
    let head: Vec<&str> = results.lines().next().unwrap().split(',').collect();
    let figure = |line: &str, name: &str| -> f64 {
        // The second column, a shape, has commas of its own.
        let cells: Vec<&str> = line.split(',').rev().collect();
        let column = head.len() - 1 - head.iter().position(|head| *head == name).unwrap();
        cells[column].parse().unwrap()
    };
    let layers: Vec<&str> = results.lines().skip(1).collect();
    let (whole, layers) = layers.split_last().unwrap();
    assert_eq!(layers.len(), 17, "{results}");
    for what in ["parameters", "forward_macs", "training_macs"] {
        assert_eq!(layers.iter().map(|line| figure(line, what)).sum::<f64>(), figure(whole, what), "{what}");
    }
    assert_eq!(figure(whole, "parameters"), 397_574.0);
    for line in layers.iter().chain([whole]) {
        assert!(figure(line, "training_seconds") >= 0.0 && figure(line, "training_bytes") > 0.0, "{line}");
    }
    // A pool has no working memory: what it takes is what the shapes say.
    let pool = layers.iter().find(|line| line.starts_with("1 MaxPool")).unwrap();
    assert_eq!(figure(pool, "training_bytes"), figure(pool, "training_bytes_predicted"));
    place.mlpconv("exercise resources --batch-size 0").bad(&["batch-size", "at least 1"]);
}

#[test]
fn reductions_are_measured_and_trained() {
    let Some(place) = Place::new() else { return };
    let options = "--images 32 --test-images 16 --epochs 1 --seeds 1";
    let (said, _, results) = exercise(&place, "reduce", options);
    for (name, params, macs) in
        [("at once: 384 -> 10", "3,850", "96,000"), ("in steps: 384 -> 192 -> 96 -> 10", "93,418", "2,328,000")]
    {
        assert_eq!(row(&said, name)[..2], [params, macs]);
    }
    assert!(
        said.contains("24.3 times the parameters") && said.contains("with one seed, which has no spread"),
        "{said}"
    );
    assert_eq!(results.lines().count(), 3, "{results}");
}
