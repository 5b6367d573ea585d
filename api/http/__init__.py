"""What every route uses: dependencies, bodies, cursors, responses and errors."""
