//! What turns the body of an attempt into the body type that the inner service takes.

use std::fmt;

/// Turns the body of an attempt into the body type that the inner service takes.
///
/// A service that is generic over its request body takes [`ReplayBody`](crate::ReplayBody) as it
/// is: that is [`Identity`], the default. One with a fixed body type takes a function, [`MapFn`].
/// Implement the trait where a service has to be named in a struct and a closure cannot be.
///
/// # Examples
///
/// ```
/// use http_body_util::BodyExt;
/// use http_body_util::combinators::UnsyncBoxBody;
/// use tower_rate_limit_retry::{BoxError, MapBody, ReplayBody};
///
/// /// Boxes the body of each attempt.
/// #[derive(Clone)]
/// struct Boxed;
///
/// impl<B> MapBody<ReplayBody<B>> for Boxed
/// where
///     B: http_body::Body + Send + 'static,
///     B::Error: Into<BoxError>,
/// {
///     type Out = UnsyncBoxBody<bytes::Bytes, BoxError>;
///
///     fn map_body(&self, body: ReplayBody<B>) -> Self::Out {
///         body.boxed_unsync()
///     }
/// }
/// # let _ = Boxed.map_body(ReplayBody::<http_body_util::Empty<bytes::Bytes>>::default());
/// ```
pub trait MapBody<T> {
    /// The body type that the inner service takes.
    type Out;

    /// Turns the body of one attempt; called once per attempt.
    fn map_body(&self, body: T) -> Self::Out;
}

/// Hands the body of each attempt on as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl<T> MapBody<T> for Identity {
    type Out = T;

    fn map_body(&self, body: T) -> T {
        body
    }
}

/// Turns the body of each attempt with a function.
#[derive(Clone, Copy)]
pub struct MapFn<F>(F);

impl<F> MapFn<F> {
    pub(crate) fn new(f: F) -> Self {
        Self(f)
    }
}

impl<T, U, F> MapBody<T> for MapFn<F>
where
    F: Fn(T) -> U,
{
    type Out = U;

    fn map_body(&self, body: T) -> U {
        (self.0)(body)
    }
}

impl<F> fmt::Debug for MapFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_hands_the_body_on() {
        assert_eq!(Identity.map_body("body"), "body");
    }

    #[test]
    fn a_function_turns_the_body() {
        let map = MapFn::new(str::len);
        assert_eq!(map.map_body("body"), 4);
        assert_eq!(format!("{map:?}"), "MapFn { .. }");
    }
}
