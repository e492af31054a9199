//! `mlpconv data show`: examples of each class with its name, and how many images there are of each, so that a reader
//! looks at the data before training on it.

use std::path::PathBuf;
use std::sync::Arc;

use mlpconv::data::{DataName, Dataset, Loader, LoaderConfig, Order};
use mlpconv::weights::write_whole;
use mlpconv::{Error, Result};

use super::super::exercise::findings::Table;
use super::super::screen::{Screen, printable};
use super::super::{grouped, say};
use super::mosaic::Mosaic;
use super::sheet::{self, Format};
use super::{load, summarize};

/// The arguments of `mlpconv data show`.
#[derive(clap::Args)]
pub struct ShowArgs {
    /// fashion-mnist, mnist, kmnist, cifar10, or a folder of images [default: fashion-mnist]
    #[arg(value_name = "NAME|DIR", default_value_t, hide_default_value = true)]
    data: DataName,
    /// Folder that holds the files of the data set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Examples of each class
    #[arg(long, default_value_t = 5)]
    examples: usize,
    /// Decides which examples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the examples to a page (.html), or to a picture (.png) with a row for each class, in the order of the table
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Training images of each class.
pub struct Examples {
    pub data: Arc<Dataset>,
    /// Their indices, class by class.
    pub of_classes: Vec<Vec<usize>>,
}

impl Examples {
    /// The first `count` of each class in the order of a shuffled epoch.
    fn new(data: Dataset, count: usize, seed: u64) -> Result<Self> {
        let data = Arc::new(data);
        let (height, width) = (data.height(), data.width());
        let order = Order::Shuffled { seed };
        let loader = Loader::new(data.clone(), LoaderConfig { batch_size: 1, height, width, order })?;
        let mut of_classes = vec![Vec::new(); data.classes()];
        for index in loader.order(0) {
            let class = &mut of_classes[usize::from(data.labels()[index as usize])];
            if class.len() < count {
                class.push(index as usize);
            }
        }
        Ok(Examples { data, of_classes })
    }

    /// The images of a class.
    pub fn images(&self, class: usize) -> Vec<&[u8]> {
        self.of_classes[class].iter().map(|index| self.data.image(*index)).collect()
    }

    /// The most examples of a class.
    pub fn most(&self) -> usize {
        self.of_classes.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// The side to which images of several sizes are resized, to look at.
const SIDE: usize = 64;

/// Prints sizes, the number of images of each class, and examples.
///
/// # Errors
/// [`Error`] for a data set that is not found, no examples, or a picture that cannot be written.
pub fn show(args: ShowArgs) -> Result<()> {
    let ShowArgs { data, data_dir, examples, seed, out } = args;
    if examples == 0 {
        return Err(Error::Config { what: "examples".into(), problem: "must be at least 1".into() });
    }
    let format = out.as_deref().map(Format::of).transpose()?;
    let data = load(&data, data_dir.as_deref(), SIDE)?;
    summarize(&data);
    let names: Vec<String> = data.train.class_names().iter().map(|name| printable(name)).collect();
    let counts = [&data.train, &data.test].map(counts);
    let mut table = Table::new(["class", "training", "test"]);
    for (class, name) in names.iter().enumerate() {
        let [train, test] = counts.each_ref().map(|counts| grouped(counts[class]));
        table.push([name.clone(), train, test]);
    }
    say(format_args!("\n{}", table.text()));
    let examples = Examples::new(data.train, examples, seed)?;
    if let (Some(out), Some(format)) = (out, format) {
        match format {
            Format::Png => write_whole(&out, &sheet::png(&examples)?)?,
            Format::Page => sheet::page(&examples, &data.title, &table).write(&out)?,
        }
        say(format_args!("\nexamples {}", out.display()));
        return Ok(());
    }
    let data = &examples.data;
    let extents = [data.height(), data.width(), data.channels()];
    let mosaic = Mosaic::new(extents, examples.most(), Screen::of_stdout())?;
    for (class, name) in names.iter().enumerate() {
        say(format_args!("\n{name}"));
        mosaic.lines(&examples.images(class))?.iter().for_each(say);
    }
    Ok(())
}

/// The number of images of each class.
fn counts(data: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; data.classes()];
    data.labels().iter().for_each(|label| counts[usize::from(*label)] += 1);
    counts
}
