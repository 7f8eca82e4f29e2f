module lab/images/workloads

go 1.25.0
