//! Parses PTX text: `lexer` splits it into tokens, `parser` and `statement` build the syntax tree of `ast`.
//!
//! The parser knows no instructions. Names, modifiers and operands stay as written, each with its line. (PTX ISA 9.0,
//! "Syntax" and "State Spaces, Types, and Variables".)

pub mod ast;
mod lexer;
mod parser;
mod statement;

pub use parser::parse;

/// A syntax error: its line, and a message that names the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: usize,
    pub message: String,
}
