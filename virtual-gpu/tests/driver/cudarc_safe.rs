//! cudarc's safe interface, with its event tracking between streams enabled.

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::*;

pub fn one_block(threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

#[test]
fn events_order_the_work_of_two_streams() {
    let _alone = context();
    let device = CudaContext::new(0).unwrap();
    let adder = device.load_module(Ptx::from_src(PTX)).unwrap().load_function("add").unwrap();
    let (first, second) = (device.new_stream().unwrap(), device.new_stream().unwrap());
    let mut data = first.clone_htod(&[1u32; 64]).unwrap();
    for (stream, value) in [(&first, 1u32), (&second, 10), (&first, 100)] {
        unsafe { stream.launch_builder(&adder).arg(&mut data).arg(&value).launch(one_block(64)) }.unwrap();
    }
    let copy = second.clone_dtod(&data).unwrap();
    assert_eq!(second.clone_dtoh(&copy).unwrap(), [112; 64]);
    assert_eq!(first.clone_dtoh(&data.slice(8..16)).unwrap(), [112; 8]);
    let forked = first.fork().unwrap();
    forked.memset_zeros(&mut data).unwrap();
    first.join(&forked).unwrap();
    assert_eq!(first.clone_dtoh(&data).unwrap(), [0; 64]);

    let mut pinned = unsafe { device.alloc_pinned::<u32>(64) }.unwrap();
    pinned.as_mut_slice().unwrap().fill(9);
    first.memcpy_htod(&pinned, &mut data).unwrap();
    assert_eq!(first.clone_dtoh(&data).unwrap(), [9; 64]);

    assert!(adder.occupancy_max_active_blocks_per_multiprocessor(64, 0, None).unwrap() > 0);
    let (free, total) = device.mem_get_info().unwrap();
    assert!(free < total && total == device.total_mem().unwrap());
    assert_ne!(device.uuid().unwrap().bytes, [0; 16]);
    drop((data, copy, pinned));
    device.synchronize().unwrap();
    device.check_err().unwrap();
}

#[test]
fn streams_work_in_concurrent_threads() {
    let _alone = context();
    let device = CudaContext::new(0).unwrap();
    let adder = device.load_module(Ptx::from_src(PTX)).unwrap().load_function("add").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (device, adder) = (&device, &adder);
            scope.spawn(move || {
                let stream = device.new_stream().unwrap();
                let mut data = stream.clone_htod(&[thread; 128]).unwrap();
                for _ in 0..10 {
                    let mut launch = stream.launch_builder(adder);
                    launch.arg(&mut data).arg(&7u32);
                    unsafe { launch.launch(one_block(128)) }.unwrap();
                }
                assert_eq!(stream.clone_dtoh(&data).unwrap(), [thread + 70; 128]);
            });
        }
    });
    device.check_err().unwrap();
}
