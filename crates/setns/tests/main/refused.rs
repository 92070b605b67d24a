// SPDX-License-Identifier: Apache-2.0
//! Programs that execve(2) refuses: they have been started by then.

use std::os::unix::fs::symlink;

use crate::support::{Done, Setup};

#[test]
fn what_execve_refuses_is_on_standard_error() {
    let setup = Setup::new();
    setup.file("bin/bad", 0o755, "#!/nonexist\n");
    setup.file("bin/short", 0o755, "ab");
    setup.file("bin/empty", 0o755, "");
    setup.file("bin/denied", 0o755, "#!/etc/plain\n");
    setup.file("etc/plain", 0o644, "");
    symlink("/bin/bad", setup.rootfs().join("bin/link")).unwrap();
    setup.run(async |bench| {
        for (program, error) in [
            ("/bin/bad", "exec /bin/bad: no such file or directory\n"),
            ("bad", "exec /bin/bad: no such file or directory\n"),
            ("/bin/link", "exec /bin/link: no such file or directory\n"),
            ("/bin/short", "exec /bin/short: exec format error\n"),
            ("/bin/empty", "exec /bin/empty: exec format error\n"),
            ("/bin/denied", "exec /bin/denied: permission denied\n"),
        ] {
            let done = bench.exec(&bench.process(&[program])).await.unwrap();
            let stderr = error.to_owned();
            assert_eq!(done, Done { code: 255, stdout: String::new(), stderr });
        }
    });
}
