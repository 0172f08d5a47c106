//! How fast the simulator goes: 8 nodes with light stores and steady traffic, without faults.
//! `cargo run --release -p tcat-sim --example traffic -- [SIMULATED_SECONDS] [SAVES_A_SECOND]`.

use std::time::Instant;
use tcat_sim::world::{Weather, World, content};

const NODES: usize = 8;
/// Saves meet on so many names.
const NAMES: u64 = 400;

fn main() {
    let argument = |at| std::env::args().nth(at).and_then(|text: String| text.parse::<u64>().ok());
    let (seconds, saves) = (argument(1).unwrap_or(120), argument(2).unwrap_or(4));
    let calm = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
    let mut world = World::new(1, NODES, calm);
    world.run_for(2_000);
    let (inputs, begun) = (world.inputs, Instant::now());
    for second in 0..seconds {
        for save in 0..saves {
            let node = world.chance(NODES as u64) as usize;
            let name = format!("{}.jpg", world.chance(NAMES));
            world.save(node, &name, content(1 + second * saves + save));
            world.run_for(1_000 / saves.max(1));
        }
        if saves == 0 {
            world.run_for(1_000);
        }
    }
    let (inputs, wall_s) = (world.inputs - inputs, begun.elapsed().as_secs_f64());
    println!(
        "{NODES} nodes, {saves} saves a second: {inputs} inputs in {wall_s:.2} s: {:.0} a second, {:.0} times real time",
        inputs as f64 / wall_s,
        seconds as f64 / wall_s
    );
}
