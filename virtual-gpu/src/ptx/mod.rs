//! Reads PTX text: `lexer` cuts it into tokens, `parser` and `statement` make the tree of `ast`.
//!
//! Nothing here knows what an instruction means: names, modifiers and operands pass through as they stand, with the
//! line they stood on. (PTX ISA 9.0, "Syntax" and "State Spaces, Types, and Variables".)

pub mod ast;
mod lexer;
mod parser;
mod statement;

pub use parser::parse;

/// Text that is not PTX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: usize,
    pub message: String,
}
