use super::Rounding;
use super::float::Mode;

/// The two 16-bit formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    F16,
    Bf16,
}

pub fn f16_to_f32(bits: u16) -> f32 {
    let _ = (bits,);
    unimplemented!()
}

pub fn f32_to_f16(v: f32, r: Rounding) -> u16 {
    let _ = (v, r);
    unimplemented!()
}

pub fn bf16_to_f32(bits: u16) -> f32 {
    let _ = (bits,);
    unimplemented!()
}

pub fn f32_to_bf16(v: f32, r: Rounding) -> u16 {
    let _ = (v, r);
    unimplemented!()
}

pub fn f64_to_f16(v: f64, r: Rounding) -> u16 {
    let _ = (v, r);
    unimplemented!()
}

pub fn f64_to_bf16(v: f64, r: Rounding) -> u16 {
    let _ = (v, r);
    unimplemented!()
}

pub fn to_f32(kind: Half, bits: u16) -> f32 {
    let _ = (kind, bits);
    unimplemented!()
}

pub fn from_f32(kind: Half, v: f32, r: Rounding) -> u16 {
    let _ = (kind, v, r);
    unimplemented!()
}

pub fn add16(kind: Half, a: u16, b: u16, m: Mode) -> u16 {
    let _ = (kind, a, b, m);
    unimplemented!()
}

pub fn sub16(kind: Half, a: u16, b: u16, m: Mode) -> u16 {
    let _ = (kind, a, b, m);
    unimplemented!()
}

pub fn mul16(kind: Half, a: u16, b: u16, m: Mode) -> u16 {
    let _ = (kind, a, b, m);
    unimplemented!()
}

pub fn fma16(kind: Half, a: u16, b: u16, c: u16, m: Mode) -> u16 {
    let _ = (kind, a, b, c, m);
    unimplemented!()
}

pub fn min16(kind: Half, a: u16, b: u16, ftz: bool, nan: bool) -> u16 {
    let _ = (kind, a, b, ftz, nan);
    unimplemented!()
}

pub fn max16(kind: Half, a: u16, b: u16, ftz: bool, nan: bool) -> u16 {
    let _ = (kind, a, b, ftz, nan);
    unimplemented!()
}

pub fn neg16(kind: Half, a: u16, ftz: bool) -> u16 {
    let _ = (kind, a, ftz);
    unimplemented!()
}

pub fn abs16(kind: Half, a: u16, ftz: bool) -> u16 {
    let _ = (kind, a, ftz);
    unimplemented!()
}

pub fn relu16(kind: Half, a: u16) -> u16 {
    let _ = (kind, a);
    unimplemented!()
}

pub fn flush16(kind: Half, a: u16) -> u16 {
    let _ = (kind, a);
    unimplemented!()
}
