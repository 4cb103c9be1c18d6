# Rscript make_resampled.R (in this folder): quantile fits of given samples by quantreg, and the
# variance between fractional polynomials by lm, both for tests/estimation/test_resampled_golden.py.
suppressMessages(library(quantreg))
options(digits = 17)
engel <- read.csv("../curves/engel.csv")
set.seed(7)
n <- nrow(engel)
half <- ceiling(n / 2)
# People drawn within two groups, as trials are: the first half and the second of the file.
draw <- function() c(sample(half, half, TRUE), half + sample(n - half, n - half, TRUE))
U <- sapply(1:12, function(i) draw())
write.table(apply(U, 2, function(u) tabulate(u, n)), "counts.csv", sep = ",", row.names = FALSE,
            col.names = paste0("s", 1:12))
X <- cbind(1, engel$income)
rows <- data.frame()
for (tau in c(0.1, 0.5, 0.9)) {
  b <- boot.rq(X, engel$foodexp, tau, R = 12, bsmethod = "xy", U = U)$B
  for (i in 1:12) {
    y <- engel$foodexp[U[, i]]
    r <- y - X[U[, i], ] %*% b[i, ]
    rows <- rbind(rows, data.frame(tau, sample = i, b0 = b[i, 1], b1 = b[i, 2],
                                   loss = sum(r * (tau - (r < 0)))))
  }
}
write.csv(rows, "planes.csv", row.names = FALSE)

people <- read.csv("../curves/fp_people.csv")
x <- people$age / 50
powers <- c(-2, -1, -0.5, 0, 0.5, 1, 2, 3)
term <- function(x, p) if (p == 0) log(x) else x^p
columns <- function(x, pair) {
  if (!length(pair)) return(matrix(0, length(x), 0))
  one <- term(x, pair[1])
  if (length(pair) == 1) return(cbind(one))
  cbind(one, if (pair[1] == pair[2]) one * log(x) else term(x, pair[2]))
}
tried <- c(list(numeric(0)), as.list(powers),
           unlist(lapply(1:8, function(i) lapply(i:8, function(j) powers[c(i, j)])), FALSE))
fits <- lapply(tried, function(pair) {
  X <- cbind(1, columns(x, pair))
  f <- lm(people$y ~ X - 1)
  at <- cbind(1, columns(c(30, 50, 70) / 50, pair)) %*% coef(f)
  list(score = -2 * as.numeric(logLik(f)) +
         qchisq(0.95, 1) * (if (identical(pair, 1)) 1 else 2 * length(pair)), at = as.numeric(at))
})
score <- sapply(fits, `[[`, "score")
weight <- exp((min(score) - score) / 2)
weight <- weight / sum(weight)
at <- sapply(fits, `[[`, "at")
name <- sapply(tried, function(pair) if (length(pair)) paste(pair, collapse = " ") else "none")
write.csv(data.frame(powers = name, weight, at30 = at[1, ], at50 = at[2, ], at70 = at[3, ]),
          "polynomials.csv", row.names = FALSE)
writeLines(c(R.version.string, paste("quantreg", packageVersion("quantreg"))), "versions.txt")
