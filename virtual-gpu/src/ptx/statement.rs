//! Instructions and their operands (PTX ISA 9.0, "Statements", "Instruction Operands").

use super::ast::{Instruction, Operand};
use super::lexer::Token;
use super::parser::{Parsed, Parser};

impl Parser {
    pub(super) fn instruction(&mut self) -> Parsed<Instruction> {
        let guard = if self.accept('@') {
            let negated = self.accept('!');
            Some((self.word()?, negated))
        } else {
            None
        };
        let line = self.line();
        let name = self.word()?;
        let mut operands = Vec::new();
        while !self.accept(';') {
            operands.push(self.operand(0)?);
            if !self.accept(',') && !self.is(';') {
                return self.fail(format!("`,` or `;` expected, found {}", self.shown()));
            }
        }
        Ok(Instruction { line, location: self.location, guard, name, operands })
    }

    fn operand(&mut self, depth: usize) -> Parsed<Operand> {
        if depth > 3 {
            return self.fail("operands are nested too deeply");
        }
        let operand = match self.next()? {
            Token::Word(word) if word == "_" => Operand::Sink,
            Token::Word(word) => Operand::Name(word),
            Token::Integer(value) => Operand::Integer(value),
            Token::Float32(bits) => Operand::Float32(bits),
            Token::Float64(bits) => Operand::Float64(bits),
            Token::Punct('-') => match self.next()? {
                Token::Integer(value) => Operand::Integer(value.wrapping_neg()),
                Token::Float32(bits) => Operand::Float32(bits ^ 1 << 31),
                Token::Float64(bits) => Operand::Float64(bits ^ 1 << 63),
                _ => return self.fail("a number expected after `-`"),
            },
            Token::Punct('!') => Operand::Not(self.word()?),
            Token::Punct('[') => self.address(depth)?,
            Token::Punct('{') => Operand::Vector(self.operands('}', depth)?),
            Token::Punct('(') => Operand::List(self.operands(')', depth)?),
            _ => {
                self.at -= 1;
                return self.fail(format!("an operand expected, found {}", self.shown()));
            }
        };
        if self.accept('|') {
            return Ok(Operand::Pair(Box::new(operand), Box::new(self.operand(depth + 1)?)));
        }
        // `name+4` without brackets: an address inside a variable.
        if let Operand::Name(base) = &operand
            && (self.is('+') || self.is('-'))
        {
            self.accept('+');
            let offset = self.integer()? as i64;
            return Ok(Operand::Address { base: Some(base.clone()), offset });
        }
        Ok(operand)
    }

    fn operands(&mut self, end: char, depth: usize) -> Parsed<Vec<Operand>> {
        let mut found = Vec::new();
        while !self.accept(end) {
            found.push(self.operand(depth + 1)?);
            if !self.accept(',') && !self.is(end) {
                return self.fail(format!("`,` or `{end}` expected, found {}", self.shown()));
            }
        }
        Ok(found)
    }

    fn address(&mut self, depth: usize) -> Parsed<Operand> {
        let mut base = None;
        let mut offset = 0i64;
        if self.peek_word().is_some() {
            base = Some(self.word()?);
            while self.accept('+') || self.is('-') {
                offset = offset.wrapping_add(self.integer()? as i64);
            }
        } else {
            offset = self.integer()? as i64;
        }
        if let Some(base) = &base
            && self.accept(',')
        {
            self.expect('{')?;
            let coords = self.operands('}', depth)?;
            self.expect(']')?;
            return Ok(Operand::Tensor { base: base.clone(), offset, coords });
        }
        self.expect(']')?;
        Ok(Operand::Address { base, offset })
    }
}
