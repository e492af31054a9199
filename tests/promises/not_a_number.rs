//! Promise 6. A NaN or an infinity stops the run before it reaches the weights, and is named with step and op.
