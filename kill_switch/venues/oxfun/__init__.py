"""Hold the adapter of OX.FUN and its parts."""
