//! Errors of statements and rows, and their conversion to [`StoreError`].

use rusqlite::ErrorCode;

use crate::seal::SealFault;
use crate::store::StoreError;

/// Why a statement failed or a row could not be read.
#[derive(Debug)]
pub(super) enum SqliteFault {
    Sql(rusqlite::Error),
    Corrupt(String),
}

impl From<rusqlite::Error> for SqliteFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<SealFault> for SqliteFault {
    fn from(fault: SealFault) -> Self {
        Self::Corrupt(fault.to_string())
    }
}

impl From<SqliteFault> for StoreError {
    fn from(fault: SqliteFault) -> Self {
        match fault {
            SqliteFault::Corrupt(what) => Self::Corrupt(what),
            SqliteFault::Sql(error) => {
                let corrupt = matches!(
                    error.sqlite_error_code(),
                    Some(
                        ErrorCode::DatabaseCorrupt
                            | ErrorCode::NotADatabase
                            | ErrorCode::ConstraintViolation
                    )
                ) || matches!(
                    error,
                    rusqlite::Error::FromSqlConversionFailure(..)
                        | rusqlite::Error::IntegralValueOutOfRange(..)
                        | rusqlite::Error::InvalidColumnType(..)
                        | rusqlite::Error::Utf8Error(..)
                );
                if corrupt {
                    Self::Corrupt(error.to_string())
                } else {
                    Self::Unavailable(error.to_string())
                }
            }
        }
    }
}
