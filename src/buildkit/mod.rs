//! A BuildKit daemon, spoken to: connections to it, sessions by which it reads and writes files, and solves that are held at
//! its gateway. Knows no plan: `engine::fleet` does.

#[expect(dead_code, unused_imports, reason = "used by the fleet engine, which is being written")]
mod session;
