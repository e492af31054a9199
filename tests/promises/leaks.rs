//! Promise 10. No leak, on the host or on the device.
