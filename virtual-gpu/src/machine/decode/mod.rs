//! Decodes a kernel's syntax tree into a program: names become rows, instructions become closures over rows.
//!
//! Decoding is strict: an unknown instruction, modifier or operand is an error here, before anything runs.

mod bulk;
mod call;
mod convert;
mod float;
mod form;
mod hopper;
mod integer;
mod lanes;
mod mbarrier;
mod memory;
mod select;
mod sync;
mod wgmma;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::LoadError;
use super::allocate::allocate;
use super::counts::Class;
use super::flow::{Graph, reconverge};
use super::program::*;
use super::rows::rows;
use crate::ptx::ast::{Function, Instruction, Operand, Space, Statement, Type, Variable};
pub(super) use bulk::bulk_function;
use form::Form;

type Decoded<T> = Result<T, LoadError>;

/// The largest number of registers that a kernel may declare. More are taken for a mistake.
const MOST_REGISTERS: u64 = 1 << 20;

/// The largest size of a kernel's parameters in bytes (PTX ISA 9.0, "Kernel Function Parameters").
const MOST_PARAMS: usize = 32_764;
/// The largest local memory of a thread in bytes.
const MOST_LOCAL: usize = 512 << 10;

/// The names that a module defines.
#[derive(Default)]
pub(super) struct Names {
    /// The number of the module's `.target`: 80 for `sm_80`.
    pub target: u32,
    /// Whether the target is one architecture only: `sm_90a`.
    pub specific: bool,
    /// The addresses of `.global` and `.const` variables.
    pub globals: HashMap<String, u64>,
    /// The `.shared` variables declared outside of functions.
    pub shared: Vec<Variable>,
    /// The `.func`s that have a body.
    pub functions: HashMap<String, Arc<Function>>,
}

/// The program of a function, and the resources it needs.
pub(super) struct Decoding {
    pub program: Program,
    pub params: Vec<super::Param>,
    pub static_shared: usize,
    pub local_bytes: usize,
    pub registers: usize,
    /// The statements that calls have inlined in this module so far.
    pub inlined: usize,
}

#[derive(Clone, Copy)]
struct Register {
    ty: Type,
    index: u32,
}

#[derive(Clone, Copy)]
enum Symbol {
    Shared(u64),
    Local(u64),
    Param(u64),
    Global(u64),
    /// A parameter or a result of a device function, at an offset in local memory.
    Call(u64),
}

struct Range {
    ty: Type,
    count: u32,
}

/// A block in braces, or the body of a function.
#[derive(Default)]
struct Scope {
    /// Tells it from every other one of the program.
    number: usize,
    ranges: HashMap<String, Range>,
    registers: HashMap<String, (Type, Option<u32>)>,
    symbols: HashMap<String, Symbol>,
}

pub(super) struct Decoder {
    names: Arc<Names>,
    scopes: Vec<Scope>,
    scopes_made: usize,
    /// The addresses of labels, by the scope's number and the name.
    labels: HashMap<(usize, String), u32>,
    pending: Vec<Pending>,
    constants: HashMap<u64, R>,
    specials: HashMap<String, (Special, R)>,
    program: Program,
    declared: u64,
    static_shared: usize,
    local_bytes: usize,
    /// The shared variables of called functions, by function and name. All calls of a function share them.
    called_shared: HashMap<(String, String), Symbol>,
    /// The calls being decoded, the innermost last.
    calls: Vec<call::Call>,
    inlined: usize,
}

/// A branch to be resolved.
struct Pending {
    /// The instruction's index.
    at: usize,
    /// The numbers of the scopes in which the label may be, the innermost first.
    scopes: Vec<usize>,
    label: String,
    line: usize,
}

/// A decoded instruction without its guard: operation, class, and floating-point operations for each thread.
struct Made {
    op: Op,
    class: Class,
    flops: u32,
}

fn made(op: Op, class: Class) -> Decoded<Made> {
    Ok(Made { op, class, flops: 0 })
}

fn layout(at: &mut usize, variable: &Variable) -> usize {
    let offset = at.next_multiple_of(variable.align.max(1));
    *at = offset + variable.bytes();
    offset
}

pub(super) fn params(function: &Function) -> Vec<super::Param> {
    let mut end = 0;
    let place =
        |param: &Variable| super::Param { offset: layout(&mut end, param), size: param.bytes(), align: param.align };
    function.params.iter().map(place).collect()
}

/// Decodes a function of the module that defines `names`. `inlined` is [`Decoding::inlined`] of the function before.
pub(super) fn decode(function: &Function, names: &Arc<Names>, inlined: usize) -> Decoded<Decoding> {
    let mut decoder = Decoder {
        names: names.clone(),
        scopes: vec![Scope::default()],
        scopes_made: 0,
        labels: HashMap::new(),
        pending: Vec::new(),
        constants: HashMap::new(),
        specials: HashMap::new(),
        program: Program { predicates: 2, ..Program::default() },
        declared: 0,
        static_shared: 0,
        local_bytes: 0,
        called_shared: HashMap::new(),
        calls: Vec::new(),
        inlined,
    };
    let params = params(function);
    if params.last().is_some_and(|last| last.offset + last.size > MOST_PARAMS) {
        return Err(LoadError::new(function.line, format!("more than {MOST_PARAMS} bytes of parameters")));
    }
    for (param, place) in function.params.iter().zip(&params) {
        let symbol = if function.entry { Symbol::Param(place.offset as u64) } else { decoder.call_place(param)? };
        decoder.scopes[0].symbols.insert(param.name.clone(), symbol);
    }
    for result in &function.returns {
        let symbol = decoder.call_place(result)?;
        decoder.scopes[0].symbols.insert(result.name.clone(), symbol);
    }
    let body = function.body.as_deref().unwrap_or_default();
    // The kernel has those of the module's shared variables that it, or a function it calls, names.
    let (spoken_of, called) = reach(body, &names.functions);
    let (mut unsized_arrays, fixed): (Vec<&Variable>, Vec<&Variable>) =
        names.shared.iter().filter(|it| spoken_of.contains(it.name.as_str())).partition(|it| it.unsized_array);
    for variable in fixed {
        decoder.shared(variable);
    }
    // All unsized arrays begin at the end of the sized variables.
    for (function, body) in [(None, body)].into_iter().chain(called) {
        for statement in body {
            let Statement::Variable(variable) = statement else { continue };
            match (variable.space, function) {
                (Space::Shared, _) if variable.unsized_array => unsized_arrays.push(variable),
                (Space::Shared, None) => decoder.shared(variable),
                (Space::Shared, Some(function)) => {
                    let symbol = Symbol::Shared(layout(&mut decoder.static_shared, variable) as u64);
                    decoder.called_shared.insert((function.to_owned(), variable.name.clone()), symbol);
                }
                _ => {}
            }
        }
    }
    let align = unsized_arrays.iter().map(|variable| variable.align).max();
    let start = decoder.static_shared.next_multiple_of(align.unwrap_or(1).max(1));
    for variable in unsized_arrays {
        decoder.scopes[0].symbols.insert(variable.name.clone(), Symbol::Shared(start as u64));
        decoder.static_shared = start;
    }
    decoder.body(body)?;
    decoder.finish(params)
}

type Bodies<'a> = Vec<(Option<&'a str>, &'a [Statement])>;

/// Every name that a body or its callees use, and the callees by name and body.
fn reach<'a>(body: &'a [Statement], functions: &'a HashMap<String, Arc<Function>>) -> (HashSet<&'a str>, Bodies<'a>) {
    let (mut names, mut called) = (HashSet::new(), Vec::new());
    let mut open = vec![body];
    while let Some(body) = open.pop() {
        let mut operands: Vec<&Operand> = Vec::new();
        for statement in body {
            if let Statement::Instruction(instruction) = statement {
                operands.extend(&instruction.operands);
            }
        }
        while let Some(operand) = operands.pop() {
            match operand {
                Operand::Name(name)
                | Operand::Address { base: Some(name), .. }
                | Operand::Tensor { base: name, .. }
                    if names.insert(name.as_str()) =>
                {
                    if let Some((name, function)) = functions.get_key_value(name) {
                        let body = function.body.as_deref().unwrap_or_default();
                        open.push(body);
                        called.push((Some(name.as_str()), body));
                    }
                }
                Operand::Vector(parts) | Operand::List(parts) => operands.extend(parts),
                Operand::Pair(a, b) => operands.extend([a.as_ref(), b.as_ref()]),
                _ => {}
            }
        }
    }
    (names, called)
}

impl Decoder {
    /// Allocates a shared variable, visible in the whole function: nvcc gives each a unique name, in any scope.
    fn shared(&mut self, variable: &Variable) {
        let offset = layout(&mut self.static_shared, variable);
        self.scopes[0].symbols.insert(variable.name.clone(), Symbol::Shared(offset as u64));
    }

    fn body(&mut self, body: &[Statement]) -> Decoded<()> {
        for statement in body {
            match statement {
                Statement::Open => self.open(HashMap::new()),
                Statement::Close => {
                    self.scopes.pop();
                }
                Statement::Register { line, ty, name, count } => self.declare(*line, *ty, name, *count)?,
                Statement::Variable(variable) => self.variable(variable)?,
                Statement::Label { line, name } => {
                    let at = self.program.code.len() as u32;
                    let scope = self.scopes.last().map_or(0, |scope| scope.number);
                    if self.labels.insert((scope, name.clone()), at).is_some() {
                        return Err(LoadError::new(*line, format!("label `{name}` is defined twice")));
                    }
                }
                Statement::Instruction(instruction) => self.instruction(instruction)?,
            }
        }
        Ok(())
    }

    fn open(&mut self, symbols: HashMap<String, Symbol>) {
        self.scopes_made += 1;
        self.scopes.push(Scope { number: self.scopes_made, symbols, ..Scope::default() });
    }

    /// Leaves a branch to be resolved when all labels are known.
    fn branch_to(&mut self, label: &str, scopes: Vec<usize>, line: usize) {
        self.pending.push(Pending { at: self.program.code.len(), scopes, label: label.to_owned(), line });
    }

    fn declare(&mut self, line: usize, ty: Type, name: &str, count: Option<u32>) -> Decoded<()> {
        self.declared += u64::from(count.unwrap_or(1));
        if self.declared > MOST_REGISTERS {
            return Err(LoadError::new(line, "too many registers"));
        }
        if ty.bits() > 64 {
            return Err(LoadError::new(line, "registers of 128 bits are not supported"));
        }
        let Some(scope) = self.scopes.last_mut() else { return Err(LoadError::new(line, "`}` without `{`")) };
        match count {
            Some(count) => {
                scope.ranges.insert(name.to_owned(), Range { ty, count });
            }
            None => {
                scope.registers.insert(name.to_owned(), (ty, None));
            }
        }
        Ok(())
    }

    fn variable(&mut self, variable: &Variable) -> Decoded<()> {
        let symbol = match variable.space {
            Space::Shared => return Ok(()),
            Space::Param => self.call_place(variable)?,
            Space::Local => {
                let offset = layout(&mut self.local_bytes, variable);
                if self.local_bytes > MOST_LOCAL {
                    return Err(LoadError::new(variable.line, "more than 512 KiB of local memory"));
                }
                Symbol::Local(offset as u64)
            }
            _ => {
                let message = format!("variable `{}`: its state space is not supported in functions", variable.name);
                return Err(LoadError::new(variable.line, message));
            }
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.symbols.insert(variable.name.clone(), symbol);
        }
        Ok(())
    }

    /// The register of this name. Its row is allocated at its first use.
    fn find(&mut self, name: &str) -> Option<Register> {
        for scope in self.scopes.iter_mut().rev() {
            if !scope.registers.contains_key(name) {
                let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
                // `%r12` may belong to the range `%r` or to the range `%r1`.
                let found = (name.len() - digits..name.len()).find_map(|cut| {
                    let (prefix, number) = name.split_at(cut);
                    let range = scope.ranges.get(prefix)?;
                    let plain = number == "0" || !number.starts_with('0');
                    (plain && number.parse::<u32>().is_ok_and(|n| n < range.count)).then_some(range.ty)
                });
                let Some(ty) = found else { continue };
                scope.registers.insert(name.to_owned(), (ty, None));
            }
            if let Some((ty, index)) = scope.registers.get_mut(name) {
                let index = *index.get_or_insert_with(|| {
                    let counter = if *ty == Type::Pred { &mut self.program.predicates } else { &mut self.program.rows };
                    *counter += 1;
                    *counter as u32 - 1
                });
                return Some(Register { ty: *ty, index });
            }
        }
        None
    }

    fn symbol(&self, name: &str) -> Option<Symbol> {
        let own = self.scopes.iter().rev().find_map(|scope| scope.symbols.get(name).copied());
        own.or_else(|| self.names.globals.get(name).map(|address| Symbol::Global(*address)))
    }

    fn constant(&mut self, value: u64) -> R {
        let program = &mut self.program;
        *self.constants.entry(value).or_insert_with(|| {
            program.constants.push([value; 32]);
            CONSTANT | (program.constants.len() as u32 - 1)
        })
    }

    fn special(&mut self, name: &str) -> Option<(Special, R)> {
        if let Some(known) = self.specials.get(name) {
            return Some(*known);
        }
        let special = sync::special(name)?;
        if matches!(special, Special::Zero | Special::One) && self.names.target < 90 {
            return None;
        }
        let row = self.program.rows as u32;
        self.program.rows += 1;
        self.program.specials.push((special, row));
        self.specials.insert(name.to_owned(), (special, row));
        Some((special, row))
    }

    fn register(&mut self, form: &Form, name: &str) -> Decoded<Register> {
        match self.find(name) {
            Some(register) => Ok(register),
            None => form.fail(format!("`{name}` is not declared")),
        }
    }

    /// The row of a destination of exactly `bits` bits; `NOWHERE` for `_`.
    fn target(&mut self, form: &Form, operand: &Operand, bits: u32) -> Decoded<R> {
        let register = self.any_target(form, operand)?;
        match register {
            None => Ok(NOWHERE),
            Some(register) if register.ty.bits() == bits => Ok(register.index),
            Some(register) => form.fail(format!("a destination of {bits} bits, not {}", register.ty.bits())),
        }
    }

    /// A destination register of any width; `None` for `_`.
    fn any_target(&mut self, form: &Form, operand: &Operand) -> Decoded<Option<Register>> {
        match operand {
            Operand::Sink => Ok(None),
            Operand::Name(name) => match self.register(form, name)? {
                Register { ty: Type::Pred, .. } => form.fail(format!("`{name}` is a predicate")),
                register => Ok(Some(register)),
            },
            _ => form.fail("a register expected as destination"),
        }
    }

    /// A destination predicate; `NOWHERE` for `_`.
    fn predicate_target(&mut self, form: &Form, operand: &Operand) -> Decoded<P> {
        match operand {
            Operand::Sink => Ok(NOWHERE),
            Operand::Name(name) => match self.register(form, name)? {
                Register { ty: Type::Pred, index } => Ok(index),
                _ => form.fail(format!("`{name}` is not a predicate")),
            },
            _ => form.fail("a predicate expected as destination"),
        }
    }

    fn predicate(&mut self, form: &Form, operand: &Operand) -> Decoded<Guard> {
        let (name, negated) = match operand {
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            Operand::Integer(value) => return Ok(Guard { p: if *value != 0 { TRUE } else { FALSE }, negated: false }),
            _ => return form.fail("a predicate expected"),
        };
        match self.register(form, name)? {
            Register { ty: Type::Pred, index } => Ok(Guard { p: index, negated }),
            _ => form.fail(format!("`{name}` is not a predicate")),
        }
    }

    /// The row of a source operand, of the size of `ty`.
    fn source(&mut self, form: &Form, operand: &Operand, ty: Type) -> Decoded<R> {
        match operand {
            Operand::Name(name) => {
                if let Some(register) = self.find(name) {
                    return if register.ty == Type::Pred {
                        form.fail(format!("`{name}` is a predicate"))
                    } else if register.ty.bits() == ty.bits() {
                        Ok(register.index)
                    } else {
                        form.fail(format!("`{name}` has {} bits, not {}", register.ty.bits(), ty.bits()))
                    };
                }
                if let Some((_, row)) = self.special(name) {
                    return Ok(row);
                }
                match self.symbol(name) {
                    Some(symbol) => self.symbol_address(form, symbol, 0, ty),
                    None => form.fail(format!("`{name}` is not declared")),
                }
            }
            Operand::Address { base: Some(name), offset } => match self.symbol(name) {
                Some(symbol) => self.symbol_address(form, symbol, *offset, ty),
                None => form.fail(format!("`{name}` is not a variable")),
            },
            _ => match self.immediate(form, operand, ty)? {
                Some(value) => Ok(self.constant(value)),
                None => form.fail("a value expected"),
            },
        }
    }

    fn symbol_address(&mut self, form: &Form, symbol: Symbol, offset: i64, ty: Type) -> Decoded<R> {
        if let Symbol::Call(_) = symbol {
            return form.fail("the address of a parameter or result of a device function is not supported");
        }
        let (Symbol::Shared(at) | Symbol::Local(at) | Symbol::Param(at) | Symbol::Global(at) | Symbol::Call(at)) =
            symbol;
        if ty.bits() != 64 && (ty.bits() != 32 || matches!(symbol, Symbol::Global(_))) {
            return form.fail("the register is too small for this address");
        }
        let address = at.wrapping_add_signed(offset);
        Ok(self.constant(if ty.bits() == 32 { address & 0xffff_ffff } else { address }))
    }

    fn immediate(&self, form: &Form, operand: &Operand, ty: Type) -> Decoded<Option<u64>> {
        let mask = u64::MAX >> (64 - ty.bits().clamp(1, 64));
        Ok(Some(match (operand, ty) {
            (Operand::Integer(_), Type::F(32 | 64)) => return form.fail("an integer where a float is expected"),
            (Operand::Integer(value), _) => value & mask,
            (Operand::Float32(bits), Type::F(32) | Type::B(32) | Type::Tf32) => (*bits).into(),
            (Operand::Float32(bits), Type::F(64)) => f64::from(f32::from_bits(*bits)).to_bits(),
            (Operand::Float64(bits), Type::F(64) | Type::B(64)) => *bits,
            (Operand::Float64(bits), Type::F(32)) => (f64::from_bits(*bits) as f32).to_bits().into(),
            (Operand::Float32(_) | Operand::Float64(_), _) => return form.fail("a float where none is expected"),
            _ => return Ok(None),
        }))
    }

    /// The value of an operand that must be an integer constant.
    fn number(&self, form: &Form, operand: &Operand) -> Decoded<u64> {
        match operand {
            Operand::Integer(value) => Ok(*value),
            _ => form.fail("a constant expected"),
        }
    }

    /// Checks that there are exactly `N` operands.
    fn operands<'o, const N: usize>(&self, form: &Form, operands: &'o [Operand]) -> Decoded<&'o [Operand; N]> {
        match operands.try_into() {
            Ok(found) => Ok(found),
            Err(_) => form.fail(format!("{N} operands expected, not {}", operands.len())),
        }
    }

    fn instruction(&mut self, instruction: &Instruction) -> Decoded<()> {
        let mut form = Form::new(&instruction.name, instruction.line);
        let guard = match &instruction.guard {
            None => Guard::ALWAYS,
            Some((name, negated)) => {
                let Guard { p, .. } = self.predicate(&form, &Operand::Name(name.clone()))?;
                Guard { p, negated: *negated }
            }
        };
        if form.base == "call" {
            return self.call(&mut form, guard, instruction);
        }
        if self.names.target < 90 && form.needs_sm_90() {
            return form.fail("this form needs `.target sm_90`");
        }
        let made = self.make(&mut form, &instruction.operands)?;
        form.finish()?;
        self.push(instruction, guard, made);
        Ok(())
    }

    fn push(&mut self, instruction: &Instruction, guard: Guard, made: Made) {
        self.program.code.push(Instr {
            op: made.op,
            guard,
            line: instruction.line as u32,
            location: instruction.location.unwrap_or((0, 0)),
            class: made.class,
            flops: made.flops,
            meet: END,
        });
    }

    fn make(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        match form.base {
            "bra" => {
                form.take("uni");
                let [target] = self.operands(form, operands)?;
                let Operand::Name(label) = target else { return form.fail("a label expected") };
                self.branch_to(label, self.scopes_of_labels(), form.line);
                made(Op::Branch { target: 0 }, Class::Branch)
            }
            "ret" | "exit" => {
                form.take("uni");
                self.operands::<0>(form, operands)?;
                if form.base == "ret"
                    && let Some(scope) = self.scope_of_call()
                {
                    self.branch_to(call::END_OF_CALL, vec![scope], form.line);
                    return made(Op::Branch { target: 0 }, Class::Branch);
                }
                made(Op::Exit, Class::Branch)
            }
            "trap" | "brkpt" => made(Op::Trap, Class::Other),
            "fence" if form.has("proxy") || form.has("mbarrier_init") => self.proxy_fence(form, operands),
            "prefetch" if form.has("tensormap") => self.prefetch_map(form, operands),
            "nanosleep" | "pmevent" | "prefetch" | "prefetchu" | "applypriority" | "discard" | "membar" | "fence" => {
                self.nothing(form, operands)
            }
            "st" if form.has("async") => self.store_async(form, operands),
            "mbarrier" => self.mbarrier(form, operands),
            "wgmma" => self.wgmma(form, operands),
            "elect" | "setmaxnreg" | "griddepcontrol" | "createpolicy" | "mapa" | "getctarank" => {
                self.hopper(form, operands)
            }
            "barrier" if form.has("cluster") => self.cluster_barrier(form, operands),
            "mov" | "selp" | "setp" | "set" | "slct" => self.select(form, operands),
            "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "bfe" | "bfi" | "bfind"
            | "popc" | "clz" | "brev" | "prmt" | "sad" | "mul24" | "mad24" | "rem" | "dp4a" | "dp2a" | "fns"
            | "bmsk" | "addc" | "subc" | "madc" | "szext" => self.integer(form, operands),
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "min" | "max" | "abs" | "neg" => {
                self.arithmetic(form, operands)
            }
            "ex2" | "lg2" | "rcp" | "rsqrt" | "sqrt" | "sin" | "cos" | "tanh" | "copysign" | "testp" => {
                self.float(form, operands)
            }
            "cvt" | "cvta" | "isspacep" => self.convert(form, operands),
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "ldmatrix" | "stmatrix" => self.memory(form, operands),
            "shfl" | "vote" | "match" | "activemask" | "redux" | "bar" | "barrier" | "mma" => self.sync(form, operands),
            _ => form.unsupported(),
        }
    }

    /// Decodes an instruction that exists for integers and for floats, by its type.
    fn arithmetic(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let types: Vec<Type> = form.name.split('.').filter_map(Type::parse).collect();
        match types.first() {
            Some(Type::U(_) | Type::S(_) | Type::B(_)) => self.integer(form, operands),
            Some(_) => self.float(form, operands),
            None => form.unsupported(),
        }
    }

    fn finish(mut self, params: Vec<super::Param>) -> Decoded<Decoding> {
        // The end of the body is an implicit return.
        self.program.code.push(Instr {
            op: Op::Exit,
            guard: Guard::ALWAYS,
            line: self.program.code.last().map_or(0, |last| last.line),
            location: (0, 0),
            class: Class::Branch,
            flops: 0,
            meet: END,
        });
        for Pending { at, scopes, label, line } in self.pending {
            let mut found = scopes.iter().filter_map(|scope| self.labels.get(&(*scope, label.clone())));
            let Some(target) = found.next() else {
                return Err(LoadError::new(line, format!("label `{label}` is not defined")));
            };
            self.program.code[at].op = Op::Branch { target: *target };
        }
        let graph = Graph::of(&self.program.code);
        reconverge(&mut self.program.code, &graph);
        let registers = self.program.rows;
        if self.program.has_wgmma {
            // What touches the registers of a product in flight is told by their rows.
            for instr in &mut self.program.code {
                let mut touched = Vec::new();
                rows(&mut instr.op, |row, _| touched.push(*row));
                self.program.touched.push(touched.into());
            }
        } else {
            allocate(&mut self.program, &graph);
        }
        Ok(Decoding {
            program: self.program,
            params,
            static_shared: self.static_shared,
            local_bytes: self.local_bytes,
            registers,
            inlined: self.inlined,
        })
    }
}
