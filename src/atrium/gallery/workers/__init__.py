"""Programs that read and write model files in a child process: native code and hostile files cost one child."""
