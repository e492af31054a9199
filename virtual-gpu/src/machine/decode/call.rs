//! Calls of device functions (PTX ISA 9.0, "Abstracting the ABI" and "call"). Every call is inlined, with registers and
//! labels of its own. Recursion and indirect calls are therefore not supported.

use super::*;

/// The label at the end of an inlined call. The space makes it a name that no PTX can contain.
pub(super) const END_OF_CALL: &str = " end";

/// The largest number of calls inside one another. Decoding a call takes some of the host's stack.
const MOST_NESTED: usize = 64;
/// The largest number of statements that a module's calls may inline, nested calls included.
const MOST_INLINED: usize = 1 << 20;

pub(super) struct Call {
    name: String,
    /// How many scopes there are outside of it.
    depth: usize,
}

impl Decoder {
    /// The numbers of the scopes whose labels can be named here, the innermost first: those of the function.
    pub(super) fn scopes_of_labels(&self) -> Vec<usize> {
        let depth = self.calls.last().map_or(0, |call| call.depth);
        self.scopes[depth..].iter().rev().map(|scope| scope.number).collect()
    }

    /// The scope of the innermost call.
    pub(super) fn scope_of_call(&self) -> Option<usize> {
        self.calls.last().map(|call| self.scopes[call.depth].number)
    }

    /// Allocates a parameter or a result of a function in local memory.
    pub(super) fn call_place(&mut self, variable: &Variable) -> Decoded<Symbol> {
        if variable.space == Space::Reg {
            let message = format!("`{}`: registers as parameters are not supported", variable.name);
            return Err(LoadError::new(variable.line, message));
        }
        let offset = layout(&mut self.local_bytes, variable);
        if self.local_bytes > MOST_LOCAL {
            return Err(LoadError::new(variable.line, "more than 512 KiB of local memory"));
        }
        Ok(Symbol::Call(offset as u64))
    }

    /// The area that an access to `.param` uses: local memory for the parameters of functions.
    pub(super) fn place(&mut self, operand: &Operand, area: Area) -> Area {
        match operand {
            Operand::Address { base: Some(name), .. }
                if area == Area::Param
                    && self.find(name).is_none()
                    && matches!(self.symbol(name), Some(Symbol::Call(_))) =>
            {
                Area::Local
            }
            _ => area,
        }
    }

    pub(super) fn call(&mut self, form: &mut Form, guard: Guard, instruction: &Instruction) -> Decoded<()> {
        let operands = instruction.operands.as_slice();
        form.take("uni");
        form.finish()?;
        let (results, name, arguments): (&[Operand], _, &[Operand]) = match operands {
            [Operand::List(results), Operand::Name(name), Operand::List(arguments)] => (results, name, arguments),
            [Operand::Name(name), Operand::List(arguments)] => (&[], name, arguments),
            [Operand::List(results), Operand::Name(name)] => (results, name, &[]),
            [Operand::Name(name)] => (&[], name, &[]),
            _ => return form.fail("this form of call is not supported"),
        };
        if guard != Guard::ALWAYS {
            return form.fail("calls under a guard are not supported");
        }
        // `assert` calls this when it fails (CUDA programming guide, "Assertion").
        if name == "__assertfail" {
            return {
                self.push(instruction, guard, Made { op: Op::Trap, class: Class::Other, flops: 0 });
                Ok(())
            };
        }
        let Some(function) = self.names.functions.get(name).cloned() else {
            return form.fail(format!("function `{name}` has no body in this module"));
        };
        if self.calls.iter().any(|call| call.name == *name) {
            return form.fail(format!("`{name}` calls itself: recursion is not supported"));
        }
        let mut symbols = HashMap::new();
        let formals = function.returns.iter().chain(&function.params);
        if results.len() != function.returns.len() || arguments.len() != function.params.len() {
            return form.fail(format!("`{name}` is declared with another number of parameters or results"));
        }
        for (formal, actual) in formals.zip(results.iter().chain(arguments)) {
            let Operand::Name(actual) = actual else { return form.fail("a parameter's name expected") };
            let Some(symbol @ Symbol::Call(_)) = self.symbol(actual) else {
                return form.fail(format!("`{actual}` is not a parameter"));
            };
            symbols.insert(formal.name.clone(), symbol);
        }
        if self.calls.len() == MOST_NESTED {
            return form.fail(format!("more than {MOST_NESTED} calls are nested"));
        }
        let body = function.body.as_deref().unwrap_or_default();
        self.inlined += 1 + body.len();
        if self.inlined > MOST_INLINED {
            return form.fail(format!("the module's calls inline more than {MOST_INLINED} statements"));
        }
        self.calls.push(Call { name: name.clone(), depth: self.scopes.len() });
        for statement in body {
            if let Statement::Variable(variable) = statement
                && let Some(symbol) = self.called_shared.get(&(name.clone(), variable.name.clone()))
            {
                symbols.insert(variable.name.clone(), *symbol);
            }
        }
        self.open(symbols);
        let scope = self.scopes_made;
        self.body(body)?;
        self.labels.insert((scope, END_OF_CALL.to_owned()), self.program.code.len() as u32);
        self.scopes.pop();
        self.calls.pop();
        Ok(())
    }
}
