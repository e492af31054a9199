use super::half::Half;

pub fn m16n8k8_tf32(a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn m16n8k4_tf32(a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn m16n8k16(kind: Half, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let _ = (kind, a, b, c);
    unimplemented!()
}

pub fn m16n8k8(kind: Half, a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let _ = (kind, a, b, c);
    unimplemented!()
}

pub fn m16n8k16_f16_acc(a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[u32; 2]; 32]) -> [[u32; 2]; 32] {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn m16n8k8_f16_acc(a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[u32; 2]; 32]) -> [[u32; 2]; 32] {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn ldmatrix(rows: &[[u16; 8]; 8], trans: bool) -> [u32; 32] {
    let _ = (rows, trans);
    unimplemented!()
}

pub fn stmatrix(registers: &[u32; 32], trans: bool) -> [[u16; 8]; 8] {
    let _ = (registers, trans);
    unimplemented!()
}

pub fn ldmatrix_address(lane: usize) -> (usize, usize) {
    let _ = (lane,);
    unimplemented!()
}
