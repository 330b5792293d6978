package schema

import "github.com/rasterloom/rasterloom/internal/pgstore"

// Roles are the names in the SQL that sets up a database for the suite.
type Roles = pgstore.Roles
