use super::Rounding;

/// The modifiers of a floating-point instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    pub rounding: Rounding,
    pub ftz: bool,
    pub sat: bool,
}

impl Mode {
    /// `.rn` without modifiers.
    pub const NEAREST: Mode = Mode { rounding: Rounding::Nearest, ftz: false, sat: false };
}

pub fn add32(a: f32, b: f32, m: Mode) -> f32 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn sub32(a: f32, b: f32, m: Mode) -> f32 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn mul32(a: f32, b: f32, m: Mode) -> f32 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn div32(a: f32, b: f32, m: Mode) -> f32 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn fma32(a: f32, b: f32, c: f32, m: Mode) -> f32 {
    let _ = (a, b, c, m);
    unimplemented!()
}

pub fn rcp32(a: f32, m: Mode) -> f32 {
    let _ = (a, m);
    unimplemented!()
}

pub fn sqrt32(a: f32, m: Mode) -> f32 {
    let _ = (a, m);
    unimplemented!()
}

pub fn add64(a: f64, b: f64, m: Mode) -> f64 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn sub64(a: f64, b: f64, m: Mode) -> f64 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn mul64(a: f64, b: f64, m: Mode) -> f64 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn div64(a: f64, b: f64, m: Mode) -> f64 {
    let _ = (a, b, m);
    unimplemented!()
}

pub fn fma64(a: f64, b: f64, c: f64, m: Mode) -> f64 {
    let _ = (a, b, c, m);
    unimplemented!()
}

pub fn rcp64(a: f64, m: Mode) -> f64 {
    let _ = (a, m);
    unimplemented!()
}

pub fn sqrt64(a: f64, m: Mode) -> f64 {
    let _ = (a, m);
    unimplemented!()
}

pub fn min32(a: f32, b: f32, ftz: bool, nan: bool) -> f32 {
    let _ = (a, b, ftz, nan);
    unimplemented!()
}

pub fn min64(a: f64, b: f64) -> f64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn max32(a: f32, b: f32, ftz: bool, nan: bool) -> f32 {
    let _ = (a, b, ftz, nan);
    unimplemented!()
}

pub fn max64(a: f64, b: f64) -> f64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn abs32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn neg32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn flush32(a: f32) -> f32 {
    let _ = (a,);
    unimplemented!()
}

pub fn saturate32(a: f32) -> f32 {
    let _ = (a,);
    unimplemented!()
}
