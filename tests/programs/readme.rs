//! Every command of the READMEs runs: in their order, in one folder, cut down to a few images.

use std::collections::BTreeSet;

use super::*;

/// The commands of a README's `sh` blocks, in order, without their comments.
fn commands(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(path).unwrap();
    let mut within = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        match line {
            "```sh" => within = true,
            "```" => within = false,
            line if within => commands.push(line.split(" #").next().unwrap().trim().to_owned()),
            _ => {}
        }
    }
    commands.retain(|command| !command.is_empty());
    assert!(commands.len() > 20, "{name} has only {commands:?}");
    commands
}

/// The options that cut a command down, beside its own. A training run on a GPU is the network of the book, which takes
/// the virtual GPU seconds an image of its own size: here it is about the smallest that the network takes.
fn cut(words: &[&str]) -> Vec<&'static str> {
    let sizes: &[[&str; 2]] = match words {
        ["train", ..] if words.contains(&"cuda") => {
            &[["--train-limit", "1"], ["--test-limit", "1"], ["--epochs", "1"], ["--resize", "68"]]
        }
        ["train", ..] if words.contains(&"--resume") => &[],
        ["train", ..] | ["launch", "-n", _, "--", "train", ..] => {
            &[["--train-limit", "16"], ["--test-limit", "8"], ["--batch-size", "8"], ["--epochs", "1"]]
        }
        ["exercise", "heads" | "resources"] => &[],
        ["exercise", ..] => &[["--images", "64"], ["--test-images", "32"], ["--epochs", "1"]],
        _ => &[],
    };
    let mut options: Vec<&str> = sizes.iter().filter(|[name, _]| !words.contains(name)).flatten().copied().collect();
    if words.contains(&"cifar") {
        options.extend(["--data-dir", "cifar-10"]);
    }
    options
}

/// The program's words of a command, or `None` for a command that builds: those of `make` are named in the Makefile, and the
/// others are what this test, or CI, is run by.
fn words(command: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match &words[..] {
        ["make", target] => {
            let makefile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).unwrap();
            let rules = makefile.lines().filter(|line| !line.starts_with(['\t', '.', '#']));
            let mut targets = rules.filter_map(|rule| rule.split_once(':')).flat_map(|(targets, _)| targets.split(' '));
            assert!(targets.any(|word| word == *target), "the Makefile has no {target}");
            None
        }
        ["cargo", "test" | "bench"] | ["cargo", "install", "--path", "."] => None,
        ["cargo", "run", "--release", "--bin", "train"] => Some(vec!["train"]),
        ["cargo", "run", "--release", "--bin", "train", "--", rest @ ..] => Some([&["train"], rest].concat()),
        ["cargo", "run", "--release", "--bin", "mlpconv", "--", rest @ ..] => Some(rest.to_vec()),
        _ => panic!("what kind of command is this? {command}"),
    }
}

/// The parameters of preset `small`, all zero.
fn small() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let net = Preset::Small.net(&mlpconv::Cpu::<f32>::new(), 1).unwrap();
    let tensor = |(name, param): (String, &mlpconv::Param<_>)| {
        (name, param.shape().dims().to_vec(), vec![0.0; param.shape().len()])
    };
    mlpconv::nn::Module::params(&net).into_iter().map(tensor).collect()
}

#[test]
fn every_command_of_the_readmes_runs() {
    let [english, chinese] = ["README.md", "README.zh-CN.md"].map(commands);
    let set = |commands: &[String]| commands.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(set(&english), set(&chinese), "the READMEs' commands differ");

    let Some(place) = Place::new() else { return };
    other_data::colours(&place.path("my-photos"), [20, 24], 8, 2);
    other_data::cifar(&place.path("cifar-10"));
    fs::write(place.path("net.pt"), pt::file(&small(), None)).unwrap();
    image::RgbImage::from_fn(300, 200, |x, y| image::Rgb([x as u8, y as u8, 99])).save(place.path("shoe.png")).unwrap();
    let gpu = gpu::gpu(mlpconv::Precision::Bf16).is_some();
    for line in &english {
        let Some(words) = words(line) else { continue };
        let on_gpu = words.contains(&"cuda");
        if on_gpu && !gpu {
            continue;
        }
        let mut command = place.command(MLPCONV, "");
        command.args(&words).args(cut(&words));
        if on_gpu && !gpu::real() {
            command.env("LD_PRELOAD", gpu::library("libvirtual_gpu.so")).env_remove("CUDA_VISIBLE_DEVICES");
        }
        let done = Finished::of(&mut command);
        assert_eq!(done.code, Some(0), "{line}\n{}{}", done.stdout, done.stderr);
    }
}
