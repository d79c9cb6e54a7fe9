//! Goal: no seed breaks an invariant, and a seed replays exactly. Method: the binary, as `make sim`
//! runs it, for some seeds; `make sim` runs many more.

use std::process::Command;

#[track_caller]
fn holds(args: &[&str]) {
    let mut sim = Command::new(env!("CARGO_BIN_EXE_sim"));
    match sim.args(args).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            assert!(text.contains("seeds hold"), "{text}");
        }
        Err(error) => panic!("the simulation does not start: {error}"),
    }
}

#[test]
fn fifty_seeds_hold() {
    holds(&["--seeds", "50"]);
}

#[test]
fn a_seed_does_the_same_in_every_process() {
    holds(&["--seeds", "4", "--seed-base", "1000", "--twice"]);
}
