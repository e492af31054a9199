//! The exercises of the chapter, on a few images.

use super::interruption::interrupt;
use super::*;

/// Few images, of which every exercise makes something in seconds.
const TINY: &str = "--device cpu --images 48 --test-images 16 --epochs 2";

/// Checks the end of an exercise: plan and time beforehand, a table, two sentences, a report and a CSV file. Returns the table.
fn ended(place: &Place, name: &str, options: &str, head: &str) -> Vec<String> {
    let said = place.mlpconv(&format!("exercise {name} {TINY} {options} --out {name}")).good();
    assert_eq!(said.stdout.lines().next().map(|line| line.starts_with(&format!("exercise {name}: "))), Some(true));
    said.line("plan     ");
    said.line("time     about ");
    assert!(!said.stdout.contains('\x1b') && !said.stderr.contains('\x1b'), "{}{}", said.stdout, said.stderr);

    let blocks: Vec<&str> = said.stdout.split("\n\n").collect();
    let [_, table, end] = blocks[..] else { panic!("{}", said.stdout) };
    let table: Vec<String> = table.lines().map(str::to_owned).collect();
    assert!(table[0].starts_with(head), "{table:?}");
    let [first, second, report] = end.lines().collect::<Vec<_>>()[..] else { panic!("{end}") };
    assert!(first.ends_with('.') && second.ends_with('.'), "{end}");
    assert_eq!(report, format!("report   {name}/report.html"));

    let page = fs::read_to_string(place.path(&format!("{name}/report.html"))).unwrap();
    for heading in ["What the figures show", "Pictures", "Table", "Settings"] {
        assert!(page.contains(&format!(">{heading}</h2>")), "{heading}");
    }
    assert!(page.contains("<svg") && !page.contains("Interrupted"), "{page}");
    let csv = fs::read_to_string(place.path(&format!("{name}/results.csv"))).unwrap();
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().count() > 1 && csv.lines().all(|line| line.split(',').count() == columns), "{csv}");
    table
}

#[test]
fn one_by_one_compares_four_networks() {
    let Some(place) = Place::new() else { return };
    let table = ended(&place, "one-by-one", "--seeds 2", "in each block");
    assert_eq!(table.len(), 5, "{table:?}");
    // Counted by hand: 1248 + 115,296 + 166,080 + 17,290 parameters of the filters, and of three to no 1x1 convolutions a block.
    for (row, params) in table[1..].iter().zip(["446,404", "397,574", "348,744", "299,914"]) {
        assert!(row.contains(params), "{row}");
    }
}

#[test]
fn convergence_compares_two_networks() {
    let Some(place) = Place::new() else { return };
    assert_eq!(ended(&place, "convergence", "--seeds 1", "network").len(), 3);
}

#[test]
fn linear_output_counts_the_ends_of_runs() {
    let Some(place) = Place::new() else { return };
    let table = ended(&place, "linear-output", "--seeds 2", "last block");
    for row in &table[1..] {
        // Runs, then the dead, the stuck and those that learned.
        let counts: Vec<usize> = row.split_whitespace().filter_map(|cell| cell.parse().ok()).collect();
        assert_eq!(counts[..4].iter().sum::<usize>(), 2 * counts[0], "{row}");
    }
}

/// The configuration that won is all that `train` needs to repeat the training that was measured.
#[test]
fn tune_leaves_the_best_configuration() {
    let Some(place) = Place::new() else { return };
    let table = ended(&place, "tune", "--configurations 4", "round");
    assert!(table.len() >= 4, "{table:?}");
    let best: toml::Table = fs::read_to_string(place.path("tune/best.toml")).unwrap().parse().unwrap();
    assert_eq!(best["preset"].as_str(), Some("small"));
    assert!(!best.contains_key("device"), "{best:?}");

    let options = [
        ("preset", "preset"),
        ("lr", "learning_rate"),
        ("schedule", "schedule"),
        ("momentum", "momentum"),
        ("weight-decay", "weight_decay"),
        ("epochs", "epochs"),
        ("train-limit", "train_limit"),
        ("test-limit", "test_limit"),
    ];
    let option = |(name, key): (&str, &str)| format!("--{name} {}", best[key].to_string().replace('"', ""));
    let options: Vec<String> = options.into_iter().map(option).collect();
    place.train(&format!("{} --device cpu --out again", options.join(" "))).good();
    let again = Run::open(place.path("again")).unwrap().metrics().unwrap();
    let accuracy = again.last().unwrap().test_accuracy;
    let page = fs::read_to_string(place.path("tune/report.html")).unwrap();
    assert!(page.contains(&format!("a test accuracy of {accuracy:.4}.")), "{accuracy} is not in {page}");
}

/// What was trained until then is told, and the report says what is missing.
#[test]
#[cfg(unix)]
fn an_exercise_that_is_interrupted_ends_with_what_there_is() {
    let Some(place) = Place::new() else { return };
    let tiny = TINY.replace("--images 48", "--images 512");
    let line = format!("exercise one-by-one {tiny} --seeds 50 --out run");
    let said = interrupt(place.command(MLPCONV, &line), "kill -INT $1", "one 1x1, seed 0: ");
    assert_eq!(said.code, Some(130), "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("interrupted; missing: "), "{}", said.stderr);
    said.line("two 1x1  ");
    said.line("report   run/report.html");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Interrupted.") && page.contains("more trainings"), "{page}");
    assert!(fs::read_to_string(place.path("run/results.csv")).unwrap().lines().count() > 2);
}

#[test]
fn an_exercise_without_a_place_for_its_findings_ends_before_its_work() {
    let Some(place) = Place::new() else { return };
    fs::write(place.path("runs"), "a file").unwrap();
    let said = place.mlpconv(&format!("exercise convergence {TINY} --seeds 1")).bad(&["cannot create runs"]);
    assert!(!said.stdout.contains("plan     "), "{}", said.stdout);
}

#[test]
#[cfg(unix)]
fn findings_that_cannot_be_written_are_told() {
    let Some(place) = Place::new() else { return };
    let said = place.mlpconv_within(0, &format!("exercise convergence {TINY} --seeds 1 --out run"));
    let said = said.bad(&["cannot write run/report.html"]);
    said.line("network ");
    assert!(!said.stdout.contains("report   "), "{}", said.stdout);
}

#[test]
fn bad_options_of_an_exercise_are_refused() {
    let Some(place) = Place::new() else { return };
    place.mlpconv("exercise one-by-one --device cpu --images 0").bad(&["images", "at least 1"]);
    assert!(!place.path("runs").exists(), "nothing has begun");
    place.mlpconv("exercise tune --device cpu --images 1 --out one").bad(&["images", "held out"]);
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/report.html"), "").unwrap();
    place.mlpconv("exercise one-by-one --device cpu --out full").bad(&["full", "report.html"]);
    assert_eq!(place.mlpconv("exercise nothing").code, Some(2));
}

#[test]
fn exercises_are_listed_with_their_questions() {
    let said = Finished::of(Command::new(MLPCONV).arg("exercise")).good();
    for name in ["tune", "one-by-one", "convergence", "linear-output"] {
        assert!(said.line(name).len() > name.len() + 20, "{}", said.stdout);
    }
}
