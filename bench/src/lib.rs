//! The hot paths of SteadFS by themselves, with the same input every time: for the benches, which time them, and for the guard,
//! which counts their instructions.

pub mod inner;
