//! Options together with the words in which they were given, for a command line that repeats them.

use std::ops::Deref;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};

/// Options, and the words in which the command line gives them. It is flattened into a parser in the options' place.
pub struct AsGiven<A> {
    options: A,
    given: Vec<Given>,
}

/// An option of the command line.
struct Given {
    id: Id,
    words: Vec<String>,
}

impl<A> AsGiven<A> {
    /// The words of the options that `keep` takes, by their names as in [`Args`]' fields. Defaults are left out.
    pub fn words(&self, keep: impl Fn(&str) -> bool) -> Vec<String> {
        self.given.iter().filter(|given| keep(given.id.as_str())).flat_map(|given| given.words.clone()).collect()
    }
}

impl<A> Deref for AsGiven<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.options
    }
}

/// The options of `A` that the command line gives.
fn given<A: Args>(matches: &ArgMatches) -> Vec<Given> {
    let command = A::augment_args(Command::new("options"));
    let on_the_line = |id: &Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    let words = |option: &clap::Arg| {
        let name = option.get_long().map(|name| format!("--{name}"));
        let values = match option.get_action().takes_values() {
            true => matches.get_raw(option.get_id().as_str()).unwrap_or_default().collect(),
            false => Vec::new(),
        };
        let values = values.into_iter().map(|value| value.to_string_lossy().into_owned());
        Given { id: option.get_id().clone(), words: name.into_iter().chain(values).collect() }
    };
    command.get_arguments().filter(|option| on_the_line(option.get_id())).map(words).collect()
}

impl<A: Args> FromArgMatches for AsGiven<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(AsGiven { given: given::<A>(matches), options: A::from_arg_matches(matches)? })
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        // Parsing removes the values.
        Ok(AsGiven { given: given::<A>(matches), options: A::from_arg_matches_mut(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given = given::<A>(matches);
        self.options.update_from_arg_matches(matches)
    }
}

impl<A: Args> Args for AsGiven<A> {
    fn augment_args(command: Command) -> Command {
        A::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        A::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Args)]
    struct Options {
        #[arg(long, default_value_t = 1)]
        steps_a_line: u32,
        #[arg(long)]
        quiet: bool,
        #[arg(long)]
        limit: Option<String>,
    }

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: AsGiven<Options>,
    }

    #[test]
    fn options_are_repeated_as_they_were_given_and_defaults_are_not() {
        let words = |line: &str| {
            let options = Program::parse_from(line.split(' ')).options;
            assert_eq!(options.quiet, line.contains("--quiet"));
            options.words(|name| name != "limit").join(" ")
        };
        assert_eq!(words("program"), "");
        assert_eq!(words("program --quiet --steps-a-line=1"), "--steps-a-line 1 --quiet");
        assert_eq!(words("program --limit 10m --steps-a-line 07"), "--steps-a-line 07");
    }
}
