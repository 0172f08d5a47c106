//! The bugs that the simulator plants are in `tcat-sim` and not in `tcat`, though both are built at once.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use tcat_engine::planted::Bug;
use tcat_tests::program;

/// A program's file as text: what is no text in it is of no matter here.
fn text_of(program: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(program).unwrap()).into_owned()
}

fn simulator() -> PathBuf {
    program().with_file_name(format!("tcat-sim{}", std::env::consts::EXE_SUFFIX))
}

#[test]
fn what_ships_has_no_code_that_could_plant_a_bug() {
    let (simulator, shipped) = (text_of(&simulator()), text_of(&program()));
    // Only a store of this type can say that a bug is there: where no symbol has its name, nothing can.
    let plants = "planted..Planted";
    assert!(simulator.contains(plants), "the search would find it");
    assert!(!shipped.contains(plants));
    for bug in Bug::ALL {
        assert!(simulator.contains(bug.id()), "{}", bug.id());
        assert!(!shipped.contains(bug.id()), "{}", bug.id());
    }
}
