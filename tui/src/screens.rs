//! The screens, one file each: each draws its part between the title and the key line.

pub mod overview;
