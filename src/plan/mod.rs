//! Targets and platforms become a petgraph of builds and exports.
