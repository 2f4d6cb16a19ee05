//! ESP: SAs, seal and open, replay windows, worker loops.
