//! The syntax tree of PTX, as written: nothing is resolved or checked.

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Module {
    pub version: (u32, u32),
    pub target: String,
    /// Numbers and names of the `.file` directives.
    pub files: Vec<(u32, String)>,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Reg,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// The types of PTX (PTX ISA 9.0, "Types") that registers, variables and instructions use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    Pred,
    B(u32),
    U(u32),
    S(u32),
    F(u32),
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
}

impl Type {
    pub fn parse(text: &str) -> Option<Type> {
        Some(match text {
            "pred" => Type::Pred,
            "b8" => Type::B(8),
            "b16" => Type::B(16),
            "b32" => Type::B(32),
            "b64" => Type::B(64),
            "b128" => Type::B(128),
            "u8" => Type::U(8),
            "u16" => Type::U(16),
            "u32" => Type::U(32),
            "u64" => Type::U(64),
            "s8" => Type::S(8),
            "s16" => Type::S(16),
            "s32" => Type::S(32),
            "s64" => Type::S(64),
            "f16" => Type::F(16),
            "f32" => Type::F(32),
            "f64" => Type::F(64),
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "tf32" => Type::Tf32,
            _ => return None,
        })
    }

    pub fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B(bits) | Type::U(bits) | Type::S(bits) | Type::F(bits) => bits,
            Type::F16x2 | Type::Bf16x2 | Type::Tf32 => 32,
            Type::Bf16 => 16,
        }
    }

    pub fn bytes(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    pub fn signed(self) -> bool {
        matches!(self, Type::S(_))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub line: usize,
    pub space: Space,
    pub ty: Type,
    pub name: String,
    pub align: usize,
    /// The number of elements. A vector (`.v2`) is an array here.
    pub count: usize,
    /// `name[]`: the launch gives its size.
    pub unsized_array: bool,
    pub external: bool,
    /// The bytes of the initializer; it may be shorter than the variable.
    pub initial: Vec<u8>,
}

impl Variable {
    pub fn bytes(&self) -> usize {
        self.ty.bytes() * self.count
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub line: usize,
    pub name: String,
    pub entry: bool,
    pub params: Vec<Variable>,
    /// The return parameters of a `.func`.
    pub returns: Vec<Variable>,
    pub max_threads: Option<usize>,
    /// `.minnctapersm`, without which `setmaxnreg` has no effect.
    pub min_blocks: Option<u64>,
    /// `None` for a declaration.
    pub body: Option<Vec<Statement>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `{` and `}`: the scope of the names declared between them.
    Open,
    Close,
    /// `.reg .b32 %r<count>`; one register if there is no count.
    Register {
        line: usize,
        ty: Type,
        name: String,
        count: Option<u32>,
    },
    Variable(Variable),
    Label {
        line: usize,
        name: String,
    },
    Instruction(Instruction),
}

/// A place in the source file: the number of its `.file`, and the line.
pub type Location = (u32, u32);

#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    pub line: usize,
    pub location: Option<Location>,
    /// The guard predicate, and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// The opcode with its modifiers, as written: `add.s32`.
    pub name: String,
    pub operands: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Name(String),
    /// `!p`
    Not(String),
    /// In two's complement.
    Integer(u64),
    /// The bits of an `f32`.
    Float32(u32),
    Float64(u64),
    /// `[name+offset]`, or `[offset]`.
    Address {
        base: Option<String>,
        offset: i64,
    },
    /// `[map, {c0, c1}]`: a place in a tensor.
    Tensor {
        base: String,
        offset: i64,
        coords: Vec<Operand>,
    },
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)`, in calls.
    List(Vec<Operand>),
    /// `_`
    Sink,
}
