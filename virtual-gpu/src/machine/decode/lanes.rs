//! Lifts functions on values to functions on rows.

use crate::machine::program::{Compare, Pure};

/// The type of a lane's value in a row. A narrow value is zero-extended.
pub(super) trait Lane: Copy + 'static {
    fn get(bits: u64) -> Self;
    fn put(self) -> u64;
}

macro_rules! integers {
    ($($t:ty as $u:ty),*) => {$(
        impl Lane for $t {
            #[inline(always)]
            fn get(bits: u64) -> Self {
                bits as $t
            }
            #[inline(always)]
            fn put(self) -> u64 {
                self as $u as u64
            }
        }
    )*};
}
integers!(u8 as u8, i8 as u8, u16 as u16, i16 as u16, u32 as u32, i32 as u32, u64 as u64, i64 as u64);

impl Lane for f32 {
    #[inline(always)]
    fn get(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits().into()
    }
}

impl Lane for f64 {
    #[inline(always)]
    fn get(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits()
    }
}

pub(super) fn one<A: Lane, R: Lane>(f: impl Fn(A) -> R + Send + Sync + 'static) -> Pure {
    Pure::One(Box::new(move |d, a| {
        for i in 0..32 {
            d[i] = f(A::get(a[i])).put();
        }
    }))
}

pub(super) fn two<A: Lane, B: Lane, R: Lane>(f: impl Fn(A, B) -> R + Send + Sync + 'static) -> Pure {
    Pure::Two(Box::new(move |d, a, b| {
        for i in 0..32 {
            d[i] = f(A::get(a[i]), B::get(b[i])).put();
        }
    }))
}

pub(super) fn three<A: Lane, B: Lane, C: Lane, R: Lane>(f: impl Fn(A, B, C) -> R + Send + Sync + 'static) -> Pure {
    Pure::Three(Box::new(move |d, a, b, c| {
        for i in 0..32 {
            d[i] = f(A::get(a[i]), B::get(b[i]), C::get(c[i])).put();
        }
    }))
}

pub(super) fn four<A: Lane, B: Lane, C: Lane, D: Lane, R: Lane>(
    f: impl Fn(A, B, C, D) -> R + Send + Sync + 'static,
) -> Pure {
    Pure::Four(Box::new(move |d, a, b, c, e| {
        for i in 0..32 {
            d[i] = f(A::get(a[i]), B::get(b[i]), C::get(c[i]), D::get(e[i])).put();
        }
    }))
}

pub(super) fn compare<A: Lane>(f: impl Fn(A, A) -> bool + Send + Sync + 'static) -> Compare {
    Box::new(move |a, b| {
        let mut mask = 0;
        for i in 0..32 {
            mask |= u32::from(f(A::get(a[i]), A::get(b[i]))) << i;
        }
        mask
    })
}

/// Applies `f` to the low and the high halves of packed pairs.
#[inline(always)]
pub(super) fn halves(a: u32, b: u32, c: u32, f: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let low = f(a as u16, b as u16, c as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
    u32::from(low) | u32::from(high) << 16
}
