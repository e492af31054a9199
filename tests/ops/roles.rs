//! Roles other than the usual. A backend may store activations and parameters differently; ops take either all the
//! same, and a gradient is stored as what it is the gradient of.

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
            // With the last of them, the other way round for the seed than for the data.
            check(backend, arithmetic, case, &roles, if mixture % 2 == 0 { Role::Parameter } else { Role::Activation });
        }
    }
}

fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, case: &Case, roles: &[Role], seed_role: Role) {
    let (mut inputs, seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
    // As an activation a bias is stored like one.
    if let Some(bias) = inputs.get_mut(2).filter(|_| roles.get(2) == Some(&Role::Activation)) {
        bias.iter_mut().for_each(|b| *b = arithmetic.stored(*b));
    }
    let got = case::run_as(roles, seed_role, backend, case, &inputs, &seed);
    // A result of one role that becomes one of another may be stored on the way.
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
