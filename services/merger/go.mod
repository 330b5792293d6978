module github.com/rasterloom/rasterloom/services/merger

go 1.26.6

require github.com/rasterloom/rasterloom v0.0.0

replace github.com/rasterloom/rasterloom => ../..
