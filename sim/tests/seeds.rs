//! Two hundred seeds, and the proof that a seed decides everything.
