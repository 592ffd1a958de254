//! Runs the plan and tells its story.
