//! Raw channels through the public interface.
//!
//! | file | shows |
//! |---|---|
//! | `document` | net-mesh's document, statement by statement |
//! | `closing` | both ways to close, seen from the other end; stale handles; peers that go and come back |
//! | `sharing` | weights, windows, and that channels are independent |
//! | `forms` | the forms of sending and receiving |

mod closing;
mod document;
mod forms;
mod sharing;
mod support;
