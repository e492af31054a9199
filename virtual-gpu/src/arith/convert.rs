use super::Rounding;

pub fn f32_to_tf32(v: f32, r: Rounding) -> u32 {
    let _ = (v, r);
    unimplemented!()
}

pub fn float_to_int(v: f64, bits: u32, signed: bool, r: Rounding) -> u64 {
    let _ = (v, bits, signed, r);
    unimplemented!()
}

pub fn int_to_f32(v: i128, r: Rounding) -> f32 {
    let _ = (v, r);
    unimplemented!()
}

pub fn int_to_f64(v: i128, r: Rounding) -> f64 {
    let _ = (v, r);
    unimplemented!()
}

pub fn int_to_f16(v: i128, r: Rounding) -> u16 {
    let _ = (v, r);
    unimplemented!()
}

pub fn int_to_bf16(v: i128, r: Rounding) -> u16 {
    let _ = (v, r);
    unimplemented!()
}

pub fn f64_to_f32(v: f64, r: Rounding, ftz: bool, sat: bool) -> f32 {
    let _ = (v, r, ftz, sat);
    unimplemented!()
}

pub fn round_to_integer32(v: f32, r: Rounding) -> f32 {
    let _ = (v, r);
    unimplemented!()
}

pub fn round_to_integer64(v: f64, r: Rounding) -> f64 {
    let _ = (v, r);
    unimplemented!()
}

pub fn int_to_int(v: u64, from_bits: u32, from_signed: bool, to_bits: u32, to_signed: bool, sat: bool) -> u64 {
    let _ = (v, from_bits, from_signed, to_bits, to_signed, sat);
    unimplemented!()
}
