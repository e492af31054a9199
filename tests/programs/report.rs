//! Reports and comparisons of runs.

use std::collections::BTreeSet;

use super::*;

/// A page that was read strictly.
struct Page {
    text: String,
}

impl Page {
    /// Reads a page. Asserts that it is well-formed: every element is closed in its order, attributes are quoted, ids are
    /// unique, headings are in order, pictures and charts have names; and that nothing in it makes a request.
    fn read(path: &Path) -> Self {
        let page = fs::read_to_string(path).unwrap();
        assert!(page.len() < 2_000_000, "{} bytes", page.len());
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"));
        assert!(page.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"));
        for request in ["http:", "https:", "url(", "@import", "<script", "<iframe", "<object", "srcset", "//"] {
            // Base64 may have slashes side by side.
            let text: String = page.split('"').filter(|part| !part.starts_with("data:image/png;base64,")).collect();
            assert!(!text.contains(request), "{request}");
        }

        let (mut open, mut ids, mut heading, mut text) = (Vec::new(), BTreeSet::new(), 0, String::new());
        let mut rest = &page["<!DOCTYPE html>".len()..];
        while let Some((before, after)) = rest.split_once('<') {
            assert!(!before.contains('>') || open.last() == Some(&"style".to_owned()), "a loose > in {before}");
            text += &before.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
            text.push('\n');
            let (tag, after) = after.split_once('>').expect("a tag ends");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
                continue;
            }
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{tag}");
            let mut names = BTreeSet::new();
            let parts: Vec<&str> = attributes.split('"').collect();
            for pair in parts[..parts.len() - 1].chunks(2) {
                let name = pair[0].trim().strip_suffix('=').unwrap_or_else(|| panic!("{tag}"));
                assert!(names.insert(name), "{name} twice in {tag}");
                match name {
                    "id" => assert!(ids.insert(pair[1].to_owned()), "two elements are {}", pair[1]),
                    "src" | "href" => assert!(pair[1].starts_with("data:") || pair[1].starts_with('#'), "{tag}"),
                    _ => assert!(!name.starts_with("on"), "{tag}"),
                }
            }
            if let Some(level) = name.strip_prefix('h').and_then(|level| level.parse::<usize>().ok()) {
                assert!(level <= heading + 1, "h{level} after h{heading}");
                heading = level;
            }
            assert!(name != "img" || names.contains("alt"), "{tag}");
            assert!(name != "svg" || names.contains("role") && rest.starts_with("<title>"), "{tag}");
            if !["meta", "link", "img", "br"].contains(&name) {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty(), "{open:?} stay open");
        Page { text }
    }

    /// Whether a text is in the page, as it is read.
    fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

const OPTIONS: &str = "--preset small --train-limit 64 --test-limit 40 --batch-size 32 --lr 0.01";

#[test]
fn a_run_leaves_a_report_that_goes_on_with_it() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 2 --out run")).good();
    let path = place.path("run/report.html");
    let page = Page::read(&path);
    for name in known::FASHION_MNIST.class_names {
        assert!(page.says(name), "{name}");
    }
    for said in [
        "Confusion matrix",
        "Worst mistakes",
        "all 40 test images",
        "the weights after epoch 2",
        "section 3.2",
        "397,574",
    ] {
        assert!(page.says(said), "{said}");
    }

    place.train("--resume run --epochs 3").good();
    let page = Page::read(&path);
    assert!(page.says("3 of 3 epochs") && page.says("the weights after epoch 3"));

    fs::remove_file(&path).unwrap();
    let said = place.mlpconv("report run").good();
    assert!(said.stdout.starts_with("report   run/report.html in "), "{}", said.stdout);
    assert!(Page::read(&path).says("3 of 3 epochs"));
    place.mlpconv("report run --out other.html --image 39").good();
    assert!(Page::read(&place.path("other.html")).says("Image 39 of the test images, of class"));
    place.mlpconv("report run --image 40").bad(&["image: 40, but there are 40 test images"]);
    place.mlpconv("report nothing").bad(&["nothing", "config.toml"]);
}

/// A picture is not worth a run.
#[test]
fn a_report_that_cannot_be_written_is_a_warning() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    fs::remove_file(place.path("run/report.html")).unwrap();
    fs::create_dir(place.path("run/report.html")).unwrap();
    let said = place.train("--resume run --epochs 4").good();
    let warnings: Vec<&str> = said.stderr.lines().filter(|line| line.contains("report.html")).collect();
    let [warning] = warnings[..] else { panic!("{}", said.stderr) };
    assert!(warning.starts_with("warning: report.html is not renewed: cannot write run/report.html"), "{warning}");
    assert_eq!(Run::open(place.path("run")).unwrap().metrics().unwrap().len(), 4);
    place.mlpconv("report run").bad(&["cannot write run/report.html"]);
}

#[cfg(all(unix, feature = "images"))]
#[test]
fn names_of_classes_and_folders_are_no_markup() {
    let place = other_data::place();
    other_data::colours(&place.path("data"), [32, 32], 6, 3);
    let class = "<b>\"&amp;'";
    for half in ["train", "test"] {
        fs::rename(place.path(&format!("data/{half}/blue")), place.path(&format!("data/{half}/{class}"))).unwrap();
    }
    let run = "<i>&\"run";
    place.train(&format!("--preset cifar --data data --batch-size 6 --epochs 1 --out {run}")).good();
    let page = Page::read(&place.path(run).join("report.html"));
    assert!(page.says(class) && page.says(run));
    place.mlpconv(&format!("compare {run}")).good();
    assert!(Page::read(&place.path("compare.html")).says(run));
}

#[test]
fn runs_are_compared_in_a_page_and_a_table() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out one")).good();
    place.train(&format!("{OPTIONS} --epochs 2 --optimizer adamw --seed 7 --out two")).good();
    fs::create_dir_all(place.path("more/one")).unwrap();
    fs::copy(place.path("one/config.toml"), place.path("more/one/config.toml")).unwrap();

    let said = place.mlpconv("compare one two --out page.html").good();
    let lines: Vec<&str> = said.stdout.lines().collect();
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0)[..5], ["run", "preset", "data", "on", "epochs"]);
    assert_eq!(
        [&words(1)[..5], &words(2)[..5]],
        [["one", "small", "fashion-mnist", "test", "1/1"], ["two", "small", "fashion-mnist", "test", "2/2"]]
    );
    let accuracy = |run: &str| Run::open(place.path(run)).unwrap().metrics().unwrap().last().unwrap().test_accuracy;
    assert_eq!(words(2)[5], format!("{:.4}", accuracy("two")));
    assert_eq!(lines[3], "page     page.html");
    let page = Page::read(&place.path("page.html"));
    let settings = page.text.split("Settings that differ").last().unwrap();
    assert!(settings.contains("adamw") && settings.contains("seed") && !settings.contains("train_limit"));

    // Runs of one name are told apart by their paths; one of them has no epoch yet.
    let said = place.mlpconv("compare one more/one").good();
    assert!(said.line("more/one").contains("0/1"), "{}", said.stdout);

    fs::write(place.path("two/metrics.jsonl"), "{").unwrap();
    place.mlpconv("compare one two --out other.html").bad(&["run two", "metrics.jsonl, line 1"]);
    place.mlpconv("compare one nothing --out other.html").bad(&["run nothing", "config.toml"]);
    assert!(!place.path("other.html").exists());
}
