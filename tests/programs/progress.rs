//! The ways of showing progress: `--progress auto|bar|plain|json|none`, on terminals and elsewhere.

use std::io::{BufRead as _, BufReader, Read as _};

use serde_json::Value;

use super::*;

/// Eight steps an epoch.
const OPTIONS: &str = "--preset small --train-limit 64 --test-limit 16 --batch-size 8 --epochs 2";

fn is_control(letter: char) -> bool {
    letter.is_control() && letter != '\n'
}

/// The JSON lines of an output that has nothing else.
fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// What a terminal of some size gets from `train` with these options, and the exit code. `script`, of util-linux, opens
/// the terminal. The variables that decide about colours and letters are those of `environment` alone.
#[cfg(target_os = "linux")]
fn on_terminal(place: &Place, (columns, rows): (u16, u16), environment: &[(&str, &str)], options: &str) -> Finished {
    let mut script = place.command("script", "-q -e /dev/null -c");
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LC_ALL", "LC_CTYPE", "LANG"] {
        script.env_remove(variable);
    }
    script.env("TERM", "xterm-256color").envs(environment.iter().copied());
    script.arg(format!("stty cols {columns} rows {rows}; exec {MLPCONV} train {options}"));
    Finished::of(&mut script)
}

/// The text that was drawn on a terminal, without the codes for colours and movement.
#[cfg(target_os = "linux")]
fn without_codes(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                assert_eq!(letters.next(), Some('['), "{text:?}");
                letters.by_ref().find(char::is_ascii_alphabetic);
            }
            letter => plain.push(letter),
        }
    }
    plain
}

/// Whether there is a code that selects colours.
#[cfg(target_os = "linux")]
fn has_colours(text: &str) -> bool {
    text.split("\x1b[")
        .skip(1)
        .any(|code| code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

#[cfg(target_os = "linux")]
fn has_braille(text: &str) -> bool {
    text.contains(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter))
}

#[test]
fn json_lines_tell_every_step_and_the_metrics_of_every_epoch() {
    let Some(place) = Place::new() else { return };
    let said = place.train(&format!("{OPTIONS} --out run --progress json")).good();
    assert_eq!(said.stderr, "");
    let events = events(&said.stdout);
    let (first, last) = (&events[0], &events[events.len() - 1]);

    assert_eq!((&first["event"], first["schema"].as_u64()), (&"run".into(), Some(1)), "{first}");
    assert_eq!((&first["preset"], &first["data"]), (&"small".into(), &"fashion-mnist".into()), "{first}");
    assert_eq!((&first["folder"], &first["precision"]), (&"run".into(), &"fp32".into()), "{first}");
    assert!(first["device"].as_str().is_some_and(|device| device.starts_with("CPU")), "{first}");
    let numbers = ["epochs", "steps", "images", "test_images", "classes", "done_epochs", "done_steps"];
    assert_eq!(numbers.map(|key| first[key].as_u64().unwrap()), [2, 8, 64, 16, 10, 0, 0], "{first}");

    let steps = of_kind(&events, "step");
    let places: Vec<_> =
        steps.iter().map(|step| (step["epoch"].as_u64().unwrap(), step["step"].as_u64().unwrap())).collect();
    assert_eq!(places, (1..=2).flat_map(|epoch| (1..=8).map(move |step| (epoch, step))).collect::<Vec<_>>());
    for step in &steps {
        assert_eq!(step["images"], 8, "{step}");
        if let Some(reading) = step.get("reading_step") {
            assert!(reading.as_u64() <= step["step"].as_u64() && step["loss"].is_f64(), "{step}");
            assert_eq!(step["reading_images"].as_u64(), reading.as_u64().map(|steps| steps * 8), "{step}");
        }
    }
    let evaluations = of_kind(&events, "evaluation");
    assert_eq!(
        evaluations.iter().map(|event| (&event["epoch"], &event["images"])).collect::<Vec<_>>(),
        [(&1.into(), &16.into()), (&2.into(), &16.into())]
    );

    let epochs = of_kind(&events, "epoch");
    let metrics = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(epochs.len(), metrics.lines().count());
    for (epoch, line) in epochs.iter().zip(metrics.lines()) {
        let line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        for (key, value) in &line {
            assert_eq!(&epoch[key], value, "{key}");
        }
        // The reading of an epoch's last step is the epoch's.
        let last = steps.iter().rfind(|step| step["epoch"] == epoch["epoch"]).unwrap();
        assert_eq!((last["reading_step"].as_u64(), &last["loss"]), (Some(8), &line["loss"]), "{last}");
        assert!(["alive", "stuck", "dead"].contains(&epoch["health"].as_str().unwrap()), "{epoch}");
    }
    assert_eq!((&last["event"], &last["status"]), (&"end".into(), &"done".into()), "{last}");
    assert_eq!(last["test_accuracy"], epochs[1]["test_accuracy"]);
    assert_eq!(last["weights"], "run/weights.safetensors");
    assert!(events.is_sorted_by_key(|event| event["seconds"].as_f64().unwrap()));

    // Of a run that is done already, the end follows at once.
    let again = self::events(&place.train("--resume run --progress json").good().stdout);
    assert_eq!(again.len(), 2);
    assert_eq!((&again[0]["done_epochs"], &again[1]["test_accuracy"]), (&2.into(), &last["test_accuracy"]));
}

/// Every event and key in PROGRESS.md is printed by some run, and every one that is printed is there.
#[test]
fn json_lines_are_as_documented() {
    let Some(place) = Place::new() else { return };
    let document = include_str!("../../src/bin/console/view/PROGRESS.md");
    let in_code = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    let keys = document
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .flat_map(|row| in_code(row.split('|').nth(3).unwrap()));
    let mut documented: Vec<&str> = keys.collect();
    let done = place.train(&format!("{OPTIONS} --out done --progress json")).good();
    let failed = place.train(&format!("{OPTIONS} --out failed --lr 1e30 --progress json"));
    assert_eq!(failed.code, Some(1), "{}{}", failed.stdout, failed.stderr);
    let end = events(&failed.stdout).pop().unwrap();
    assert_eq!((&end["event"], &end["status"]), (&"end".into(), &"failed".into()), "{end}");
    assert!(failed.stderr.contains(&format!("error: {}\n", end["error"].as_str().unwrap())), "{}", failed.stderr);
    // An interrupted run's are in a test of its own, which needs signals.
    let mut printed = vec!["resume".to_owned()];
    for event in events(&done.stdout).iter().chain(&events(&failed.stdout)) {
        printed.extend(event.as_object().unwrap().keys().cloned());
    }
    documented.sort();
    documented.dedup();
    printed.sort();
    printed.dedup();
    assert_eq!(documented, printed);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_tells_programs_how_to_go_on() {
    let Some(place) = Place::new() else { return };
    let options = OPTIONS.replace("--epochs 2", "--epochs 40 --log-every 3");
    let command = place.command(TRAIN, &format!("{options} --out run --progress json"));
    let said = interruption::interrupt(command, "kill -INT $1", r#"{"event":"step""#);
    assert_eq!(said.code, Some(130), "{}{}", said.stdout, said.stderr);
    let events = events(&said.stdout);
    let (end, step) = (events.last().unwrap(), *of_kind(&events, "step").last().unwrap());
    assert_eq!(end["status"], "interrupted", "{end}");
    let resume = end["resume"].as_str().unwrap();
    let options = "--resume run --progress json --log-every 3";
    assert!(resume.ends_with(&format!(" {options}")), "{resume}");
    assert_eq!(end["weights"], "run/weights.safetensors");
    let done = |key| end[key].as_u64().unwrap();
    assert_eq!(
        (done("done_epochs") + 1, done("done_steps")),
        (step["epoch"].as_u64().unwrap(), step["step"].as_u64().unwrap())
    );

    let said = place.train(&format!("{options} --epochs 1")).good();
    assert_eq!(self::events(&said.stdout)[0]["done_steps"], end["done_steps"]);
}

#[test]
fn silence_is_silent_but_for_warnings() {
    let Some(place) = Place::new() else { return };
    let said = place.train(&format!("{OPTIONS} --out run --progress none")).good();
    assert_eq!((&*said.stdout, &*said.stderr), ("", ""));
    place.train("--resume nowhere --progress none").bad(&["nowhere"]);
}

/// A reader goes away after some line, as `head` does: the run is saved, and goes on to the weights that it would have
/// had. A run that prints nothing does not notice.
#[test]
fn a_reader_that_goes_away_leaves_a_resumable_run() {
    let Some(place) = Place::new() else { return };
    let options = OPTIONS.replace("--train-limit 64", "--train-limit 160 --log-every 1");
    place.train(&format!("{options} --out whole")).good();
    for way in ["auto", "bar", "plain", "json", "none"] {
        let mut command = place.command(TRAIN, &format!("{options} --out {way} --progress {way}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        // The first line of all, before the run has a folder; that of the run; that of its first step.
        let last = if way == "auto" { "device" } else { "step" };
        let mut line = String::new();
        while way != "none" && !line.contains(last) {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "{way} ended");
        }
        drop(reader);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let expected = if way == "none" { 0 } else { 141 };
        assert_eq!((child.wait().unwrap().code(), &*stderr), (Some(expected), ""), "{way}");
        if way != "none" {
            assert!(place.weights(way) != place.weights("whole"), "{way}: it was not stopped");
            place.train(&format!("--resume {way}")).good();
        }
        assert!(place.weights(way) == place.weights("whole"), "{way}");
    }
}

#[test]
fn without_a_terminal_there_is_no_control_character() {
    let Some(place) = Place::new() else { return };
    for (number, way) in ["auto", "bar", "plain", "json"].into_iter().enumerate() {
        let mut command = place.command(TRAIN, &format!("{OPTIONS} --out run-{number} --progress {way}"));
        command.env("TERM", "xterm-256color").env("CLICOLOR_FORCE", "1").env("LANG", "en_GB.UTF-8");
        let said = Finished::of(&mut command).good();
        assert!(!said.stdout.contains(is_control) && !said.stderr.contains(is_control), "{way}: {:?}", said.stdout);
        assert!(!said.stdout.is_empty() && said.stderr.is_empty(), "{way}");
    }
    // To a file.
    let (out, err) = (place.path("out"), place.path("err"));
    let mut command = place.command(TRAIN, &format!("{OPTIONS} --out run"));
    command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    assert!(command.status().unwrap().success());
    assert!(!fs::read_to_string(out).unwrap().contains(is_control));
    assert_eq!(fs::read_to_string(err).unwrap(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let Some(place) = Place::new() else { return };
    let said =
        on_terminal(&place, (80, 24), &[("TERM", "dumb"), ("LANG", "C.UTF-8")], &format!("{OPTIONS} --out run")).good();
    // The terminal itself adds carriage returns.
    let text = said.stdout.replace("\r\n", "\n");
    assert!(!text.contains(is_control), "{text:?}");
    assert!(text.contains("epoch 1/2, step 1/8: loss"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_a_bar_and_a_curve_in_the_colours_and_letters_it_has() {
    let Some(place) = Place::new() else { return };
    type Variables = &'static [(&'static str, &'static str)];
    let cases: [(Variables, bool, bool); 6] = [
        (&[("LANG", "C.UTF-8")], true, true),
        (&[("LANG", "C.UTF-8"), ("NO_COLOR", "1")], false, true),
        (&[("LANG", "C.UTF-8"), ("CLICOLOR", "0")], false, true),
        (&[("LANG", "C.UTF-8"), ("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")], true, true),
        (&[("LANG", "C.UTF-8"), ("LC_ALL", "C")], true, false),
        (&[("NO_COLOR", "1")], false, false),
    ];
    for (number, (environment, colours, braille)) in cases.into_iter().enumerate() {
        let said = on_terminal(&place, (80, 24), environment, &format!("{OPTIONS} --out run-{number}")).good();
        let text = without_codes(&said.stdout);
        assert_eq!(
            (has_colours(&text), has_colours(&said.stdout)),
            (false, colours),
            "{environment:?}: {:?}",
            said.stdout
        );
        assert_eq!((has_braille(&text), text.is_ascii()), (braille, !braille), "{environment:?}: {text}");
        for what in [" epoch 1/2, step ", "train acc", "test acc", "epochs", "epoch 2/2: loss", "done: test accuracy"] {
            assert!(text.contains(what), "{what:?} {environment:?}: {text}");
        }
        // The curve of a run that is done stays above the last lines.
        let end = text.rsplit_once("epoch 2/2: loss").unwrap().1;
        let (curve, done) = (end.rfind("test acc\r").expect("a legend"), end.find("done: ").unwrap());
        assert!(curve < done, "{end}");
        assert!(!text.contains("step 1/8: loss"), "no plain lines: {text}");
    }
}

/// No row of the picture reaches the last column, where terminals differ about what comes next.
#[cfg(target_os = "linux")]
#[test]
fn the_picture_fits_the_terminal() {
    let Some(place) = Place::new() else { return };
    for (columns, rows) in [(110, 30), (60, 20), (40, 12), (20, 5)] {
        let options = format!("{OPTIONS} --out run-{columns}");
        let said = on_terminal(&place, (columns, rows), &[("LANG", "C.UTF-8")], &options).good();
        let text = without_codes(&said.stdout);
        // Rows of the picture begin with a space; others are lines for the person, which the terminal wraps.
        let picture = text.split(['\r', '\n']).filter(|row| row.starts_with(' '));
        let widest = picture.map(|row| row.chars().count()).max().expect("a picture");
        assert!(widest < usize::from(columns), "{widest} of {columns}: {text}");
        assert_eq!(text.contains("epochs"), columns >= 40, "{columns}x{rows}: {text}");
    }
}

/// The lines of a run whose output goes into a pipe are for the pipe's reader, on a terminal too.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_on_a_terminal_gets_plain_lines() {
    let Some(place) = Place::new() else { return };
    let said = on_terminal(&place, (80, 24), &[("LANG", "C.UTF-8")], &format!("{OPTIONS} --out run | cat")).good();
    assert!(!said.stdout.replace("\r\n", "\n").contains(is_control), "{:?}", said.stdout);
    assert!(said.stdout.contains("epoch 1/2, step 1/8: loss"), "{}", said.stdout);
}
