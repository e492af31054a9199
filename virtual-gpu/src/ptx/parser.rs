//! Builds the syntax tree of `ast` from tokens.

use super::SyntaxError;
use super::ast::*;
use super::lexer::{Token, tokens};

pub(super) type Parsed<T> = Result<T, SyntaxError>;

pub fn parse(text: &str) -> Parsed<Module> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, location: None };
    parser.module()
}

pub(super) struct Parser {
    pub(super) tokens: Vec<(Token, usize)>,
    pub(super) at: usize,
    pub(super) location: Option<Location>,
}

impl Parser {
    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.1)
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(SyntaxError { line: self.line(), message: message.into() })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|token| &token.0)
    }

    pub(super) fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(super) fn next(&mut self) -> Parsed<Token> {
        match self.tokens.get(self.at) {
            Some((token, _)) => {
                self.at += 1;
                Ok(token.clone())
            }
            None => self.fail("the text ends too early"),
        }
    }

    pub(super) fn is(&self, c: char) -> bool {
        self.peek() == Some(&Token::Punct(c))
    }

    pub(super) fn accept(&mut self, c: char) -> bool {
        let found = self.is(c);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, c: char) -> Parsed<()> {
        if self.accept(c) { Ok(()) } else { self.fail(format!("`{c}` expected, found {}", self.shown())) }
    }

    pub(super) fn shown(&self) -> String {
        match self.peek() {
            Some(Token::Word(word)) => format!("`{word}`"),
            Some(Token::Punct(c)) => format!("`{c}`"),
            Some(Token::Text(text)) => format!("\"{text}\""),
            Some(_) => "a number".into(),
            None => "the end".into(),
        }
    }

    pub(super) fn word(&mut self) -> Parsed<String> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            _ => {
                self.at -= 1;
                self.fail(format!("a name expected, found {}", self.shown()))
            }
        }
    }

    pub(super) fn integer(&mut self) -> Parsed<u64> {
        let negative = self.accept('-');
        match self.next()? {
            Token::Integer(value) => Ok(if negative { value.wrapping_neg() } else { value }),
            _ => {
                self.at -= 1;
                self.fail(format!("an integer expected, found {}", self.shown()))
            }
        }
    }

    fn module(&mut self) -> Parsed<Module> {
        let mut module = Module::default();
        let mut external = false;
        while self.peek().is_some() {
            let line = self.line();
            let word = self.word()?;
            match word.as_str() {
                ".version" => match self.next()? {
                    Token::Float64(bits) => {
                        let version = f64::from_bits(bits);
                        module.version = (version as u32, ((version.fract() * 10.0).round()) as u32);
                    }
                    Token::Integer(major) => module.version = (major as u32, 0),
                    _ => return self.fail(".version without a number"),
                },
                ".target" => {
                    module.target = self.word()?;
                    while self.accept(',') {
                        self.word()?;
                    }
                }
                ".address_size" => {
                    if self.integer()? != 64 {
                        return self.fail("only 64-bit addresses are supported");
                    }
                }
                ".file" => self.file(&mut module)?,
                ".section" => self.section()?,
                ".loc" => self.loc()?,
                ".pragma" => self.pragma()?,
                ".visible" | ".weak" | ".common" => {}
                ".extern" => external = true,
                ".global" | ".const" | ".shared" => {
                    let space = match word.as_str() {
                        ".global" => Space::Global,
                        ".const" => Space::Const,
                        _ => Space::Shared,
                    };
                    self.variables(space, external, &mut module.variables)?;
                    external = false;
                }
                ".entry" | ".func" => {
                    let function = self.function(line, word == ".entry")?;
                    module.functions.push(function);
                    external = false;
                }
                _ => {
                    self.at -= 1;
                    return self.fail(format!("`{word}` is not supported here"));
                }
            }
        }
        if module.version == (0, 0) {
            return Err(SyntaxError { line: 1, message: "no .version directive: this is not PTX".into() });
        }
        Ok(module)
    }

    fn file(&mut self, module: &mut Module) -> Parsed<()> {
        let number = self.integer()? as u32;
        let Token::Text(name) = self.next()? else { return self.fail(".file without a name") };
        module.files.push((number, name));
        // The time stamp and the size.
        while self.accept(',') {
            self.integer()?;
        }
        Ok(())
    }

    /// Skips a debug section, which does not affect execution.
    fn section(&mut self) -> Parsed<()> {
        self.word()?;
        self.expect('{')?;
        while !self.accept('}') {
            self.next()?;
        }
        Ok(())
    }

    fn pragma(&mut self) -> Parsed<()> {
        loop {
            let Token::Text(_) = self.next()? else { return self.fail(".pragma without a string") };
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }

    /// `.loc file line column [, function_name label [+ offset], inlined_at file line column]`. The location of inlined
    /// code is the line of the call, which the caller's author knows.
    fn loc(&mut self) -> Parsed<()> {
        let mut place = (self.integer()? as u32, self.integer()? as u32);
        self.integer()?;
        while self.accept(',') {
            match self.word()?.as_str() {
                "function_name" => {
                    self.word()?;
                    if self.accept('+') {
                        self.integer()?;
                    }
                }
                "inlined_at" => {
                    place = (self.integer()? as u32, self.integer()? as u32);
                    self.integer()?;
                }
                other => return self.fail(format!("`{other}` is not an attribute of .loc")),
            }
        }
        self.location = (place.1 != 0).then_some(place);
        Ok(())
    }

    /// `.align 4 .b8 a[16] = {...}, b;`, after the state space.
    fn variables(&mut self, space: Space, external: bool, into: &mut Vec<Variable>) -> Parsed<()> {
        let (align, ty, lanes) = self.variable_type()?;
        loop {
            let mut variable = self.variable(space, align, ty, lanes, external)?;
            if self.accept('=') {
                self.initial(ty, &mut variable.initial)?;
                if variable.initial.len() > variable.bytes() {
                    return self.fail(format!("`{}` is initialised with more than it holds", variable.name));
                }
            }
            into.push(variable);
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }

    fn variable_type(&mut self) -> Parsed<(Option<usize>, Type, usize)> {
        let (mut align, mut lanes) = (None, 1);
        loop {
            let word = self.word()?;
            match word.as_str() {
                ".align" => align = Some(self.alignment()?),
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                ".ptr" | ".global" | ".const" | ".shared" | ".local" | ".volatile" => {}
                _ => match word.strip_prefix('.').and_then(Type::parse) {
                    Some(Type::Pred) | None => {
                        self.at -= 1;
                        return self.fail(format!("`{word}` is not a type of a variable"));
                    }
                    Some(ty) => return Ok((align, ty, lanes)),
                },
            }
        }
    }

    fn alignment(&mut self) -> Parsed<usize> {
        let align = self.integer()?;
        if align.is_power_of_two() && align <= 1 << 16 {
            Ok(align as usize)
        } else {
            self.fail(format!("an alignment of {align} is not supported: a power of two up to 65536 is expected"))
        }
    }

    fn variable(
        &mut self,
        space: Space,
        align: Option<usize>,
        ty: Type,
        lanes: usize,
        external: bool,
    ) -> Parsed<Variable> {
        let line = self.line();
        let name = self.word()?;
        let (mut count, mut unsized_array) = (lanes, false);
        while self.accept('[') {
            if self.accept(']') {
                unsized_array = true;
                continue;
            }
            let extent = self.integer()?;
            self.expect(']')?;
            count = match count.checked_mul(extent as usize) {
                Some(count) if count.checked_mul(16).is_some_and(|bytes| bytes <= 1 << 40) => count,
                _ => return self.fail(format!("`{name}` is too large")),
            };
        }
        if unsized_array {
            count = 0;
        }
        let align = align.unwrap_or(ty.bytes() * lanes);
        Ok(Variable { line, space, ty, name, align, count, unsized_array, external, initial: Vec::new() })
    }

    fn initial(&mut self, ty: Type, into: &mut Vec<u8>) -> Parsed<()> {
        let mut depth = 0usize;
        loop {
            if self.accept('{') {
                depth += 1;
                continue;
            }
            if !self.is('}') {
                let negative = self.accept('-');
                let bits = match (self.next()?, ty) {
                    (Token::Integer(value), Type::F(64)) => (value as f64).to_bits(),
                    (Token::Integer(value), Type::F(32)) => (value as f32).to_bits().into(),
                    (Token::Integer(value), _) if negative => value.wrapping_neg(),
                    (Token::Integer(value), _) => value,
                    (Token::Float32(bits), _) => bits.into(),
                    (Token::Float64(bits), Type::F(32)) => (f64::from_bits(bits) as f32).to_bits().into(),
                    (Token::Float64(bits), _) => bits,
                    _ => {
                        self.at -= 1;
                        return self.fail(format!("{} is not supported as an initial value", self.shown()));
                    }
                };
                let bits = match ty {
                    Type::F(width) if negative => bits ^ 1 << (width - 1),
                    _ => bits,
                };
                into.extend(bits.to_le_bytes().iter().take(ty.bytes()));
            }
            while depth > 0 && self.accept('}') {
                depth -= 1;
            }
            if depth == 0 {
                return Ok(());
            }
            if !self.accept(',') && !self.is('}') {
                return self.fail(format!("`,` expected, found {}", self.shown()));
            }
        }
    }

    fn function(&mut self, line: usize, entry: bool) -> Parsed<Function> {
        // The return parameters precede the name.
        let returns = if self.is('(') { self.parameters()? } else { Vec::new() };
        let name = self.word()?;
        let params = if self.is('(') { self.parameters()? } else { Vec::new() };
        let (mut max_threads, mut min_blocks) = (None, None);
        loop {
            match self.peek_word() {
                Some(".maxntid" | ".reqntid") => {
                    self.at += 1;
                    let mut threads = self.integer()?;
                    while self.accept(',') {
                        threads = threads.saturating_mul(self.integer()?);
                    }
                    max_threads = Some(threads as usize);
                }
                Some(".minnctapersm") => {
                    self.at += 1;
                    min_blocks = Some(self.integer()?);
                }
                Some(".maxnreg" | ".maxnctapersm" | ".maxclusterrank") => {
                    self.at += 1;
                    self.integer()?;
                }
                Some(".explicitcluster") => self.at += 1,
                Some(".reqnctapercluster") => {
                    self.at += 1;
                    let mut blocks = self.integer()?;
                    while self.accept(',') {
                        blocks = blocks.saturating_mul(self.integer()?);
                    }
                    if blocks != 1 {
                        return self.fail(format!("a cluster of {blocks} blocks: only clusters of one are supported"));
                    }
                }
                Some(".noreturn") => self.at += 1,
                Some(".pragma") => {
                    self.at += 1;
                    self.pragma()?;
                }
                Some(other) => {
                    let message = format!("`{other}` is not supported at a function");
                    return self.fail(message);
                }
                None => break,
            }
        }
        let body = if self.accept(';') { None } else { Some(self.body()?) };
        Ok(Function { line, name, entry, params, returns, max_threads, min_blocks, body })
    }

    fn parameters(&mut self) -> Parsed<Vec<Variable>> {
        self.expect('(')?;
        let mut params = Vec::new();
        while !self.accept(')') {
            let word = self.word()?;
            let space = match word.as_str() {
                ".param" => Space::Param,
                ".reg" => Space::Reg,
                _ => return self.fail(format!("`{word}` is not a state space of parameters")),
            };
            let (align, ty, lanes) = self.variable_type()?;
            params.push(self.variable(space, align, ty, lanes, false)?);
            if !self.accept(',') && !self.is(')') {
                return self.fail("`,` or `)` expected among parameters");
            }
        }
        Ok(params)
    }

    fn body(&mut self) -> Parsed<Vec<Statement>> {
        self.expect('{')?;
        self.location = None;
        let mut body = Vec::new();
        let mut depth = 1;
        loop {
            let line = self.line();
            if self.accept('{') {
                depth += 1;
                body.push(Statement::Open);
            } else if self.accept('}') {
                depth -= 1;
                if depth == 0 {
                    return Ok(body);
                }
                body.push(Statement::Close);
            } else if self.accept(';') {
                // An empty statement, as inline assembly leaves.
            } else if self.is('@') {
                let instruction = self.instruction()?;
                body.push(Statement::Instruction(instruction));
            } else {
                let Some(word) = self.peek_word().map(str::to_owned) else {
                    return self.fail(format!("an instruction expected, found {}", self.shown()));
                };
                match word.as_str() {
                    ".reg" => {
                        self.at += 1;
                        self.registers(&mut body)?;
                    }
                    ".shared" | ".local" | ".param" | ".global" | ".const" => {
                        self.at += 1;
                        let space = match word.as_str() {
                            ".shared" => Space::Shared,
                            ".local" => Space::Local,
                            ".param" => Space::Param,
                            ".global" => Space::Global,
                            _ => Space::Const,
                        };
                        let mut variables = Vec::new();
                        self.variables(space, false, &mut variables)?;
                        body.extend(variables.into_iter().map(Statement::Variable));
                    }
                    ".loc" => {
                        self.at += 1;
                        self.loc()?;
                    }
                    ".pragma" => {
                        self.at += 1;
                        self.pragma()?;
                    }
                    _ if word.starts_with('.') => return self.fail(format!("`{word}` is not supported here")),
                    _ if self.tokens.get(self.at + 1).is_some_and(|token| token.0 == Token::Punct(':')) => {
                        self.at += 2;
                        body.push(Statement::Label { line, name: word });
                    }
                    _ => {
                        let instruction = self.instruction()?;
                        body.push(Statement::Instruction(instruction));
                    }
                }
            }
        }
    }

    fn registers(&mut self, body: &mut Vec<Statement>) -> Parsed<()> {
        let line = self.line();
        let word = self.word()?;
        let Some(ty) = word.strip_prefix('.').and_then(Type::parse) else {
            self.at -= 1;
            return self.fail(format!("`{word}` is not a type of a register"));
        };
        loop {
            let name = self.word()?;
            let count = if self.accept('<') {
                let count = self.integer()?;
                self.expect('>')?;
                Some(u32::try_from(count).unwrap_or(u32::MAX))
            } else {
                None
            };
            body.push(Statement::Register { line, ty, name, count });
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }
}
