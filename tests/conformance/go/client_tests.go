//go:build pinned

// Pins what the client's own tests need: they are run from this module.
package conformance

import (
	_ "github.com/stretchr/testify/assert"
	_ "github.com/stretchr/testify/require"
)
