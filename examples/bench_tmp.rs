use mlpconv::{device::*, nn::*, ops::cross_entropy::Meter, optim::*, *};
use std::time::Instant;
fn main() -> Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let batch: usize = a[1].parse().unwrap();
    let steps: usize = a[2].parse().unwrap();
    let small = a.get(3).is_some();
    let b = Cpu::<f32>::new();
    let (mut net, hw) = if small { (Nin::small(&b, 0)?, 28) } else { (Nin::d2l(&b, 0)?, 224) };
    let s = Summary::new(&net, Shape::image(1, 1, hw, hw))?;
    println!("{} params {} macs {}", b.name(), s.params(), s.forward_macs());
    let x: Vec<f32> = (0..batch * hw * hw).map(|i| ((i * 2654435761usize) % 1000) as f32 / 1000.0).collect();
    let y: Vec<u8> = (0..batch).map(|i| (i % 10) as u8).collect();
    let mut opt = Sgd::new(&b);
    let mut meter = Meter::new(&b)?;
    for step in 0..steps {
        let t = Instant::now();
        let mut tape = Tape::new(&b, Mode::Training { seed: 0, epoch: 0, step: step as u32 });
        let xv = tape.constant(b.upload(Role::Activation, &x)?, Shape::image(batch, 1, hw, hw))?;
        let logits = net.forward(&mut tape, xv)?;
        let tf = t.elapsed();
        let loss = tape.cross_entropy(&logits, &b.upload_bytes(&y)?, &mut meter)?;
        drop(logits);
        let grads = tape.backward(loss)?;
        let tb = t.elapsed();
        opt.step(net.params_mut(), &grads, 0.05)?;
        let dt = t.elapsed();
        let r = meter.read(&b)?;
        meter.reset(&b)?;
        println!(
            "step {step} loss {:.4} fwd {:?} bwd {:?} total {:?} {:.1} img/s {:.0} GF/s mem {:?}",
            r.loss,
            tf,
            tb - tf,
            dt,
            batch as f64 / dt.as_secs_f64(),
            s.training_macs() as f64 * 2.0 * batch as f64 / dt.as_secs_f64() / 1e9,
            b.memory()
        );
    }
    Ok(())
}
