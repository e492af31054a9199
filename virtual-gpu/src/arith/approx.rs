use super::half::Half;

pub fn ex2_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn lg2_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn rcp_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn rsqrt_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn sqrt_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn sin_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn cos_32(a: f32, ftz: bool) -> f32 {
    let _ = (a, ftz);
    unimplemented!()
}

pub fn tanh_32(a: f32) -> f32 {
    let _ = (a,);
    unimplemented!()
}

pub fn div_approx_32(a: f32, b: f32, ftz: bool) -> f32 {
    let _ = (a, b, ftz);
    unimplemented!()
}

pub fn div_full_32(a: f32, b: f32, ftz: bool) -> f32 {
    let _ = (a, b, ftz);
    unimplemented!()
}

pub fn rsqrt_64(a: f64) -> f64 {
    let _ = (a,);
    unimplemented!()
}

pub fn rsqrt_64_ftz(a: f64) -> f64 {
    let _ = (a,);
    unimplemented!()
}

pub fn rcp_64_ftz(a: f64) -> f64 {
    let _ = (a,);
    unimplemented!()
}

pub fn ex2_16(kind: Half, a: u16, ftz: bool) -> u16 {
    let _ = (kind, a, ftz);
    unimplemented!()
}

pub fn tanh_16(kind: Half, a: u16) -> u16 {
    let _ = (kind, a);
    unimplemented!()
}
