//! Durations as users of clusters write them.
