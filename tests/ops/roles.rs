//! Buffers of unusual roles. A backend may store activations and parameters differently. Every op takes either role
//! for any input, and a gradient is stored in the role of its input.

use mlpconv::Backend;
use mlpconv::device::Role;

use crate::arithmetic::{Arithmetic, Bound};
use crate::case::{self, Case};
use crate::reference::{before_relu, compare};
use crate::{naive, table};

on_every_backend!(ops_take_any_role);

fn ops_take_any_role<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let small = |case: &&Case| case.inputs().iter().map(|shape| shape.len()).sum::<usize>() < 2000;
    for case in table::tape_cases().iter().filter(small) {
        let count = case.inputs().len();
        for mixture in 0..1 << count {
            let role = |bit: usize| if mixture >> bit & 1 == 1 { Role::Parameter } else { Role::Activation };
            let roles: Vec<Role> = (0..count).map(role).collect();
            // The seed has the role opposite to that of the data.
            check(backend, arithmetic, case, &roles, if mixture % 2 == 0 { Role::Parameter } else { Role::Activation });
        }
    }
}

/// Compares values and gradients, with the inputs in buffers of `roles`, with the naive loops.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, case: &Case, roles: &[Role], seed_role: Role) {
    let (mut inputs, seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
    // A bias in a buffer of activations is rounded as they are.
    if let Some(bias) = inputs.get_mut(2).filter(|_| roles.get(2) == Some(&Role::Activation)) {
        bias.iter_mut().for_each(|b| *b = arithmetic.stored(*b));
    }
    let got = case::run_as(roles, seed_role, backend, case, &inputs, &seed);
    // A conversion between roles may store the result twice.
    let bound = |sum: &naive::Sum| -> Bound {
        let bound = arithmetic.bound(case, Role::Activation, sum);
        Bound { storage: 2.0 * bound.storage, ..bound }
    };
    compare(&got.y, &format!("{case:?}, {roles:?}: y"), bound, |i| naive::output(case, &inputs, i));
    let dy = before_relu(case, &got.y, seed);
    for (input, gradient) in got.gradients.iter().enumerate() {
        let what = format!("{case:?}, {roles:?}: gradient of input {input}");
        compare(gradient, &what, bound, |i| naive::gradient(case, &inputs, &dy, input, i));
    }
}
