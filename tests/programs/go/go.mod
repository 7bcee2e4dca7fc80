module redwire.test/programs

go 1.26
